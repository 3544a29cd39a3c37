import io

import numpy as np
import pytest
from PIL import Image

from arra_med.images import decode_png, encode_png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 5), (64, 33), (6, 9, 1), (1, 1, 3), (31, 17, 3)], ids=str
)
@pytest.mark.parametrize("content", ["noise", "extremes", "constant"])
def test_png_round_trip(shape, content):
    picture = {
        "noise": RNG.integers(0, 256, shape, np.uint8),
        "extremes": RNG.choice(np.array([0, 255], np.uint8), shape),
        "constant": np.full(shape, 201, np.uint8),
    }[content]
    data = encode_png(picture)
    image = Image.open(io.BytesIO(data))
    image.verify()
    assert image.mode == ("RGB" if shape[-1] == 3 and len(shape) == 3 else "L")
    whole = picture if picture.ndim == 3 else picture[..., None]
    np.testing.assert_array_equal(decode_png(data), whole)
    np.testing.assert_array_equal(decode_png(encode_png(whole[::-1, ::-1])), whole[::-1, ::-1])


def test_png_holds_pixels_and_nothing_else():
    data = encode_png(np.zeros((4, 4), np.uint8))
    kinds = [data[12:16], data[37:41], data[-8:-4]]
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8),
     np.zeros(4, np.uint8)],
)  # fmt: skip
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match="expected a"):
        encode_png(picture)
