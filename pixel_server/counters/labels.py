"""Labels under which opens, views and visits are counted.

In the breakdown of opens a label is a letter and then a name or a bin: `cFirefox` is the client Firefox,
`nDE` is the country Germany, `t48` is bin 48 of the time to the first open.
"""

from __future__ import annotations

from iptocc import country_code

from pixel_server.addresses import unpack

UNKNOWN = "(unknown)"
"""Name of an unknown client, country or device."""
OTHER = "(other)"
"""Name under which all names without a count of their own are counted."""

CLIENT, DEVICE, COUNTRY, DELAY, PAGE, VISIT = "c", "d", "n", "t", "p", "v"
"""First letters of labels. The first three are followed by a name, the others by a bin of `histogram`: DELAY
is the time to the first open, PAGE the time on a page, VISIT the length of a visit. Stored
labels begin with these letters: letters may be added, but never changed."""


def country_label(address: bytes) -> str:
    """Returns the label of an address's country, such as `nDE`. address: 4 or 16 bytes.

    The country is the country to which a registry allocated the address, as the package iptocc lists it.
    """
    return COUNTRY + (country_code(unpack(address)) or UNKNOWN)
