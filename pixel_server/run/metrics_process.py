"""The process that answers `/metrics` at an address of its own, for a host without a web process."""

from __future__ import annotations

import os

from pixel_server.run import listen
from pixel_server.run.supervisor import Child


def metrics_child(host: str, port: int) -> Child:
    """Listens on an address, and returns the process that answers there. Raises SettingsError."""
    handle = listen.bind(host, port).detach()
    return Child("metrics", ["work", "--metrics-handle", str(handle)], os.environ, [handle])
