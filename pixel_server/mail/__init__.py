"""Makes pixel links and puts pixels into mail. Needs neither Redis nor a running server."""

from pixel_server.mail.links import Minter, embed
from pixel_server.mail.mailboxes import only_address
from pixel_server.mail.message import add_pixel

__all__ = ["Minter", "add_pixel", "embed", "only_address"]
