"""The image: a transparent GIF89a of 1x1 pixel and 43 bytes, built once."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

_ONE_PIXEL = b"\x02\x02\x44\x01\x00"
"""LZW data of one pixel of colour 0: three codes of 3 bits each, clear, 0 and end (GIF89a, appendix F)."""


def _build() -> bytes:
    """Returns Pillow's GIF with shorter image data.

    Pillow uses codes for 8 bits a pixel; 2 are enough here.
    """
    file = BytesIO()
    Image.new("P", (1, 1), 0).save(file, "GIF", transparency=0, optimize=True)
    gif = file.getvalue()
    descriptor = gif.index(b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00")
    return gif[: descriptor + 10] + _ONE_PIXEL + b"\x3b"


GIF = _build()
