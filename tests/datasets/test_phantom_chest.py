"""Every finding of a chest phantom can be measured in the picture, on the right side."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from arra_med.datasets.phantom.chest import draw_chest
from arra_med.datasets.phantom.findings import (
    FINDINGS,
    LOBES,
    ChestSpec,
    Nodule,
    lobe_side,
    sample_spec,
)

SIZE = 256
NORMAL = ChestSpec(view="PA")
SEEDS = range(2)


def draw(spec, seed, size=SIZE):
    return draw_chest(spec, size, np.random.default_rng(seed))


def region(picture, side, top, bottom, outer=0.08, inner=0.42):
    """Mean of a box; its edges as shares of the picture, columns counted from the side's edge."""
    rows = slice(int(top * len(picture)), int(bottom * len(picture)))
    flipped = picture if side == "right" else picture[:, ::-1]
    return flipped[rows, int(outer * len(picture)) : int(inner * len(picture))]


def cardiothoracic_ratio(picture, lowest):
    """Widest bright run through the middle over the widest distance between the lungs' edges."""
    smooth = gaussian_filter(picture, 1.5)
    size = len(picture)
    hearts, chests = [], []
    for row in smooth[int(0.45 * size) : int(lowest * size)]:
        lungs = row[int(0.15 * size) : int(0.85 * size)]
        dark = row < (np.percentile(lungs, 10) + np.percentile(lungs, 97)) / 2
        body = np.flatnonzero(row > 0.25)
        dark[: body[0] + size // 20] = dark[body[-1] - size // 20 :] = False
        columns = np.flatnonzero(dark)
        right, left = columns[columns < size // 2], columns[columns >= size // 2]
        if len(right) and len(left):
            hearts.append(left[0] - right[-1])
            chests.append(left[-1] - right[0])
    return max(hearts) / max(chests)


def test_same_generator_same_picture_and_range():
    for view in ("PA", "AP", "lateral"):
        spec = replace(NORMAL, view=view)
        one = draw(spec, 3)
        assert one.dtype == np.float32
        assert one.shape == (SIZE, SIZE)
        assert one.min() >= 0
        assert one.max() <= 1
        assert np.array_equal(one, draw(spec, 3))
        assert not np.array_equal(one, draw(spec, 4))


@pytest.mark.parametrize("size", [17, 64, 96, 300])
def test_every_size(size):
    assert draw(NORMAL, 0, size).shape == (size, size)


def test_size_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        draw(NORMAL, 0, 0)


def test_lungs_are_darker_than_heart_and_abdomen():
    for seed in SEEDS:
        picture = draw(NORMAL, seed)
        lung = region(picture, "right", 0.35, 0.55, 0.2, 0.35).mean()
        middle = picture[int(0.5 * SIZE) : int(0.65 * SIZE), int(0.47 * SIZE) : int(0.55 * SIZE)]
        abdomen = picture[int(0.92 * SIZE) :, int(0.3 * SIZE) : int(0.6 * SIZE)]
        assert lung + 0.25 < middle.mean()
        assert lung + 0.25 < abdomen.mean()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_effusion_whitens_its_own_base_more_the_larger_it_is(side, view):
    other = "left" if side == "right" else "right"
    spec = replace(NORMAL, view=view)
    for seed in SEEDS:
        healthy = draw(spec, seed)
        whiter = []
        for size in ("small", "moderate", "large"):
            change = draw(replace(spec, effusion={side: size}), seed) - healthy
            own = region(gaussian_filter(change, 2), side, 0.4, 0.85, 0.0, 0.45)
            across = region(change, other, 0.5, 0.85, 0.0, 0.35)
            assert own.max() > 0.12
            assert np.abs(across).mean() < 0.035 or size == "large"  # a large one pushes the heart
            whiter.append((own > 0.08).sum())
        assert 0.002 * SIZE**2 < whiter[0] < whiter[1] / 2 < whiter[2] / 2
        assert whiter[1] < whiter[2]


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_cardiothoracic_ratio(view):
    lowest = 0.70 if view == "PA" else 0.63  # above the dome of the diaphragm
    for seed in SEEDS:
        ratios = [
            cardiothoracic_ratio(draw(ChestSpec(view=view, cardiomegaly=size), seed), lowest)
            for size in (None, "small", "moderate", "large")
        ]
        assert ratios == sorted(ratios)
        assert ratios[0] < 0.46
        assert ratios[1] > 0.51


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("size", ["small", "moderate", "large"])
def test_pneumothorax_is_a_darker_rim_without_vessels(side, size):
    for seed in SEEDS:
        healthy, ill = (
            draw(spec, seed) for spec in (NORMAL, replace(NORMAL, pneumothorax=(side, size)))
        )
        darker = gaussian_filter(healthy - ill, 2) > 0.02
        rim = region(darker, side, 0.08, 0.5, 0.0, 0.5).sum()
        opposite = "left" if side == "right" else "right"
        assert rim > 3 * region(darker, opposite, 0.08, 0.5, 0.0, 0.45).sum()
        assert rim > {"small": 0.01, "moderate": 0.02, "large": 0.04}[size] * SIZE * SIZE


@pytest.mark.parametrize("lobe", LOBES)
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_consolidation_whitens_its_own_lobe(lobe, view):
    spec = replace(NORMAL, view=view)
    for seed in SEEDS:
        change = draw(replace(spec, consolidation=lobe), seed) - draw(spec, seed)
        change = gaussian_filter(change, 2)
        row, column = np.unravel_index(np.argmax(change), change.shape)
        assert change.max() > 0.1
        assert (column < SIZE / 2) == (lobe_side(lobe) == "right")
        if "upper" in lobe:
            assert row < 0.46 * SIZE
        if "lower" in lobe:
            assert row > 0.5 * SIZE


@pytest.mark.parametrize("side", ["right", "left"])
def test_nodule_lies_in_its_zone_with_its_diameter(side):
    rows = []
    for zone in ("upper", "mid", "lower"):
        nodule = Nodule(side=side, zone=zone, diameter=3.0)
        change = draw(replace(NORMAL, nodule=nodule), 1) - draw(NORMAL, 1)
        blobs, count = label(gaussian_filter(change, 1) > 0.08)
        sizes = np.bincount(blobs.ravel())[1:]
        assert count >= 1
        where = np.argwhere(blobs == 1 + np.argmax(sizes))
        centimetres = 40 / 1.14 / SIZE
        assert 2 * np.sqrt(len(where) / np.pi) * centimetres == pytest.approx(3.0, rel=0.2)
        assert (where[:, 1].mean() < SIZE / 2) == (side == "right")
        rows.append(where[:, 0].mean())
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    "devices",
    [("pacemaker",), ("port",), ("PICC",), ("central venous catheter",),
     ("endotracheal tube", "nasogastric tube")],
)  # fmt: skip
@pytest.mark.parametrize("view", ["PA", "AP", "lateral"])
def test_devices_are_the_brightest_thing(devices, view):
    spec = replace(NORMAL, view=view)
    change = draw(replace(spec, devices=devices), 2) - draw(spec, 2)
    assert change.max() > 0.15
    assert (change > 0.08).sum() > 60
    assert (np.abs(change) > 0.02).mean() < 0.1


def test_lateral_shows_effusion_behind_and_looks_different_from_frontal():
    spec = replace(NORMAL, view="lateral")
    change = draw(replace(spec, effusion={"left": "moderate"}), 0) - draw(spec, 0)
    row, column = np.unravel_index(np.argmax(gaussian_filter(change, 3)), change.shape)
    assert column > SIZE / 2
    assert row > 0.6 * SIZE
    lateral = np.mean([draw(spec, seed, 64) for seed in SEEDS], axis=0)
    frontal = np.mean([draw(NORMAL, seed, 64) for seed in SEEDS], axis=0)
    assert np.abs(lateral - frontal).mean() > 0.15


def test_portable_films_have_a_higher_diaphragm():
    def base_of_lung(view):  # lowest dark row beside the heart on the right
        strip = region(draw(ChestSpec(view=view), 0), "right", 0.0, 1.0, 0.25, 0.33).mean(axis=1)
        return np.flatnonzero(gaussian_filter(strip, 2)[: int(0.9 * SIZE)] < 0.4).max()

    assert base_of_lung("AP") < base_of_lung("PA") - 5


def test_sampled_findings_are_the_wanted_ones_unless_hidden():
    rng = np.random.default_rng(0)
    for _ in range(300):
        wanted = frozenset(name for name in FINDINGS if rng.random() < 0.5)
        spec = sample_spec(rng, findings=wanted)
        assert spec.findings <= wanted
        assert wanted - spec.findings <= {"Consolidation", "Lung Lesion"}
        if spec.pneumothorax:
            assert spec.pneumothorax[0] not in spec.effusion
