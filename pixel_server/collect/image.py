"""The image: 1x1, transparent, GIF89a, 43 bytes, built once."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

_ONE_PIXEL = b"\x02\x02\x44\x01\x00"
"""LZW of one pixel of colour 0 in a table of 2: clear, 0, end, three bits each (GIF89a, appendix F)."""


def _build() -> bytes:
    """Pillow's own GIF, its raster replaced: Pillow codes every raster with 8 bits, this one needs 2."""
    out = BytesIO()
    Image.new("P", (1, 1), 0).save(out, "GIF", transparency=0, optimize=True)
    made = out.getvalue()
    descriptor = made.index(b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00")
    return made[: descriptor + 10] + _ONE_PIXEL + b"\x3b"


GIF = _build()
