"""Self-hosted tracking pixel and email-open beacon server."""

__version__ = "0.1.0"
