from __future__ import annotations

from io import BytesIO

from PIL import Image

from pixel_server.collect.image import GIF


def test_image_is_one_transparent_pixel_of_43_bytes():
    assert len(GIF) <= 43
    assert GIF.startswith(b"GIF89a")
    assert GIF.endswith(b"\x3b")
    with Image.open(BytesIO(GIF)) as image:
        image.load()
        assert (image.format, image.size) == ("GIF", (1, 1))
        assert not getattr(image, "is_animated", False)
        assert image.convert("RGBA").getpixel((0, 0))[3] == 0
