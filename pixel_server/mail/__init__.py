"""Puts the pixel into mail: makes links and changes messages, without Redis and without this server."""

from pixel_server.mail.links import Minter, embed
from pixel_server.mail.message import add_pixel

__all__ = ["Minter", "add_pixel", "embed"]
