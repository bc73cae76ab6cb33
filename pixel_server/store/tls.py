"""Makes the TLS settings of a connection that is not one of redis-py's."""

from __future__ import annotations

import ssl

from pixel_server.store_url import StoreUrl


def tls_context(url: StoreUrl) -> ssl.SSLContext | None:
    """Returns the TLS settings of an address, as redis-py reads them, or None for an address without TLS.

    Raises OSError if a file cannot be read.
    """
    tls = url.tls
    if tls is None:
        return None
    context = ssl.create_default_context()
    if tls.ca_file:
        context.load_verify_locations(cafile=tls.ca_file)
    if tls.verify == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate_file:
        context.load_cert_chain(tls.certificate_file, tls.key_file or None)
    return context
