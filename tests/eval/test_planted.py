import io

import numpy as np
import pytest
from PIL import Image

from arra_med.eval.pixel_features import pixel_features
from arra_med.eval.planted import MUST_FIND, planted_copies


def picture(channels, seed=0):
    ramp = np.add.outer(np.arange(40) * 2, np.arange(60))[..., None]
    offsets = np.random.default_rng(seed).integers(0, 40, channels)
    return (ramp + offsets).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_copies_are_what_their_names_say(channels):
    original = picture(channels)
    copies = {
        kind: made[0]
        for kind, made in planted_copies([original], generator=np.random.default_rng(0)).items()
    }
    assert set(MUST_FIND) <= set(copies)
    for made in copies.values():
        assert made.shape == original.shape
        assert made.dtype == np.uint8
    np.testing.assert_array_equal(copies["exact"], original)
    difference = copies["two levels"].astype(int) - original
    assert set(np.unique(difference)) == {-2, -1, 0, 1, 2}
    np.testing.assert_array_equal(copies["flip"][:, ::-1], original)
    np.testing.assert_array_equal(copies["shift"][2:, 2:], original[:-2, :-2])
    assert abs(copies["jpeg"].astype(int) - original).max() <= 12
    assert (copies["jpeg"] != original).any()
    np.testing.assert_array_equal(copies["brighter"], np.minimum(original * 1.15, 255).astype(int))
    # the middle keeps its place, the rest moves outwards
    assert abs(int(copies["crop"][20, 30, 0]) - int(original[20, 30, 0])) <= 2
    assert copies["crop"][0, 0, 0] > original[0, 0, 0]


def test_planted_copies_leave_the_original_alone_and_refuse_others():
    original = picture(1)
    before = original.copy()
    planted_copies([original], generator=np.random.default_rng(0))["exact"][0][:] = 0
    np.testing.assert_array_equal(original, before)
    with pytest.raises(ValueError, match="uint8 pictures"):
        planted_copies([original / 255], generator=np.random.default_rng(0))


def test_pixel_features_are_box_means():
    block = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    expected = block.astype(float).mean(axis=2).reshape(32, 2, 32, 2).mean(axis=(1, 3)) / 255
    found = pixel_features([block, block])
    assert found.shape == (2, 1024)
    np.testing.assert_allclose(found[1], expected.ravel(), atol=1e-6)
    with pytest.raises(ValueError, match="uint8"):
        pixel_features([block / 255])


def test_jpeg_is_pillows():
    original = picture(1)
    buffer = io.BytesIO()
    Image.fromarray(original[..., 0]).save(buffer, format="JPEG", quality=75)
    expected = np.asarray(Image.open(buffer))[..., None]
    found = planted_copies([original], generator=np.random.default_rng(0))["jpeg"][0]
    np.testing.assert_array_equal(found, expected)
