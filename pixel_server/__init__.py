"""Self-hosted tracking pixel and email-open beacon server."""

__version__ = "1.0.0"
