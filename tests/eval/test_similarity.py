import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from arra_med.eval.similarity import (
    diversity,
    feature_diversity,
    other_patients,
    paired,
    paired_feature_distance,
    random_pairs,
    same_prompt_pairs,
)
from arra_med.images import encode_png
from arra_med.ms_ssim import SCALE_WEIGHTS, method, ms_ssim, scale_weights

CPU = torch.device("cpu")


def pictures(num, size=64, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (num, channels, 8, 8)))
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8)


def pngs(batch):
    return [encode_png(picture.permute(1, 2, 0).numpy()) for picture in batch]


@pytest.mark.parametrize("size", [16, 32, 64, 96, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_identical_pictures_have_similarity_one(size, channels):
    x = pictures(2, size, channels)
    np.testing.assert_allclose(ms_ssim(x, x), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "scales"), [(11, 1), (32, 2), (64, 3), (99, 4), (176, 5), (512, 5)]
)
def test_scales_follow_the_size(size, scales):
    weights = scale_weights(size)
    assert len(weights) == scales
    assert sum(weights) == pytest.approx(1)
    assert np.allclose(np.array(weights) / weights[0], np.array(SCALE_WEIGHTS[:scales]) / 0.0448)
    assert f"{scales} scales" in method(size)


def test_too_small_pictures_are_refused():
    with pytest.raises(ValueError, match="at least 11 px"):
        scale_weights(10)


def test_ms_ssim_is_built_from_ssim_at_each_scale():
    """Against scikit-image's SSIM: the coarsest scale's SSIM enters with its weight."""
    x = pictures(1, 64)
    y = (x.float() * 0.5 + 20).round().to(torch.uint8)  # structure kept, luminance changed
    coarse_x, coarse_y = (
        torch.nn.functional.avg_pool2d(t.float(), 4)[0, 0].numpy() for t in (x, y)
    )
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, full = structural_similarity(coarse_x, coarse_y, data_range=255, full=True, **options)
    ssim = full[5:-5, 5:-5].mean()
    weights = scale_weights(64)
    contrast = []
    for factor in (1, 2):
        a, b = (torch.nn.functional.avg_pool2d(t.float(), factor)[0, 0].numpy() for t in (x, y))
        contrast.append(_contrast(a, b))
    expected = contrast[0] ** weights[0] * contrast[1] ** weights[1] * ssim ** weights[2]
    assert float(ms_ssim(x, y)[0]) == pytest.approx(expected, abs=1e-4)


def _contrast(a, b):
    from scipy.ndimage import gaussian_filter

    def blur(image):
        return gaussian_filter(image.astype(np.float64), 1.5, truncate=3.5)[5:-5, 5:-5]

    var_a, var_b = blur(a * a) - blur(a) ** 2, blur(b * b) - blur(b) ** 2
    covariance, c2 = blur(a * b) - blur(a) * blur(b), (0.03 * 255) ** 2
    return ((2 * covariance + c2) / (var_a + var_b + c2)).mean()


def test_only_eight_bit_pictures_are_compared():
    with pytest.raises(ValueError, match="uint8"):
        ms_ssim(pictures(1).float() / 255, pictures(1).float() / 255)


@pytest.mark.parametrize("num", [12, 400])
def test_random_pairs_are_distinct_and_of_different_patients(num):
    groups = [f"p{i // 3}" for i in range(num)]
    pairs = random_pairs(groups, 40, np.random.default_rng(0))
    assert len(pairs) == 40
    assert len({tuple(pair) for pair in pairs.tolist()}) == 40
    assert all(i < j and groups[i] != groups[j] for i, j in pairs)
    assert len(random_pairs(["a", "a", "a"], 40, np.random.default_rng(0))) == 0


def test_random_pairs_are_found_where_one_patient_has_nearly_all_pictures():
    groups = ["a"] * 4000 + ["b"]
    for seed in range(10):
        pairs = random_pairs(groups, 500, np.random.default_rng(seed))
        assert len(pairs) == 500
        assert all(j == 4000 for _, j in pairs)


def test_other_patients_never_gives_the_same_patient():
    groups = list("abacabba")
    seen = set()
    for seed in range(50):
        others = other_patients(groups, np.random.default_rng(seed))
        assert all(groups[i] != groups[j] for i, j in enumerate(others))
        seen |= {(0, int(others[0]))}
    assert seen == {(0, i) for i, group in enumerate(groups) if group != "a"}
    assert other_patients(["a", "a"], np.random.default_rng(0)) is None


def test_paired_and_diversity_refuse_each_others_input():
    x = pngs(pictures(3))
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired(x, x[:2], batch_size=4, device=CPU)
    with pytest.raises(ValueError, match="got 0 and 0"):
        paired([], [], batch_size=4, device=CPU)
    with pytest.raises(ValueError, match="with itself"):
        diversity(x, np.array([[0, 1], [2, 2]]), batch_size=4, device=CPU)
    with pytest.raises(ValueError, match="got none"):
        feature_diversity(np.eye(3), np.zeros((0, 2), dtype=np.int64))


def test_feature_distances_by_hand():
    """Of vectors at right angles √2, of the same direction 0, of opposite ones 2."""
    features = np.array([[2.0, 0], [0, 3], [5, 0], [-1, 0]])
    pairs = np.array([[0, 1], [0, 2], [0, 3]])
    np.testing.assert_allclose(feature_diversity(features, pairs), [np.sqrt(2), 0, 2])
    found = paired_feature_distance(features, features[[2, 1, 1, 0]])
    np.testing.assert_allclose(found, [0, 0, np.sqrt(2), 2])
    with pytest.raises(ValueError, match="one real vector for each"):
        paired_feature_distance(features, features[:2])


def test_same_prompt_pairs_stay_within_a_prompt_and_are_dealt_evenly():
    prompts = ["a"] * 2 + ["b"] * 30 + ["c"] + ["d"] * 4
    rng = np.random.default_rng(0)
    every = same_prompt_pairs(prompts, 10_000, rng)
    assert len(every) == 1 + 30 * 29 // 2 + 6
    some = same_prompt_pairs(prompts, 7, rng)
    assert len({tuple(pair) for pair in some.tolist()}) == 7
    assert all(i < j and prompts[i] == prompts[j] for i, j in some)
    counts = {name: sum(prompts[i] == name for i, _ in some) for name in "abcd"}
    assert counts == {"a": 1, "b": 3, "c": 0, "d": 3}
    assert same_prompt_pairs(["a", "b"], 9, rng).shape == (0, 2)
