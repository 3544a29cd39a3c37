"""Fundus phantoms: each finding measured, and the collection in DeepEyeNet's layout."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from arra_med.datasets import phantom_fundus
from arra_med.datasets.phantom.fundus import draw_fundus
from arra_med.datasets.phantom.fundus_plan import FundusSpec, describe, plan_fundus
from arra_med.datasets.phantom_fundus import PhantomFundus, draw_photographs
from arra_med.errors import RequestError
from arra_med.schema import Sample

SIZE = 256
NORMAL = FundusSpec(eye="right")
NUM = 40
SHARES = (0.7, 0.1, 0.2)


def draw(spec, seed=0, size=SIZE):
    return draw_fundus(spec, size, np.random.default_rng(seed))


def options(root, **changes):
    return PhantomFundus.Options(root=root, **{"num_samples": NUM, "size": 64} | changes)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "fundus"
    draw_photographs(options(root))
    return root


def test_round_colour_field_on_black():
    picture = draw(NORMAL)
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert np.array_equal(picture, draw(NORMAL))
    assert picture[:8, :8].max() == 0
    red, green, blue = picture[SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4].mean(axis=(0, 1))
    assert red > green > blue


@pytest.mark.parametrize("eye", ["right", "left"])
def test_the_disc_is_bright_and_on_the_nasal_side(eye):
    green = gaussian_filter(draw(replace(NORMAL, eye=eye))[..., 1], 5)
    _, column = np.unravel_index(np.argmax(green), green.shape)
    assert (column > SIZE / 2) == (eye == "right")


def test_the_macula_is_dark():
    red = gaussian_filter(draw(NORMAL)[..., 0], 3)
    row, column = SIZE // 2, round(SIZE * (0.5 - 1.7 / 14))
    around = np.median(red[row - 30 : row + 30, column - 30 : column + 30])
    assert red[row - 5 : row + 5, column - 5 : column + 5].min() < 0.88 * around


@pytest.mark.parametrize(
    ("finding", "sign"), [("haemorrhages", -1), ("exudates", 1), ("drusen", 1)]
)
def test_more_of_a_finding_changes_more_pixels(finding, sign):
    for seed in range(2):
        healthy = draw(NORMAL, seed)[..., 0 if sign < 0 else 1]
        areas = []
        for amount in ("few", "many"):
            changed = draw(replace(NORMAL, **{finding: amount}), seed)
            change = sign * (changed[..., 0 if sign < 0 else 1] - healthy)
            areas.append(int((gaussian_filter(change, 0.7) > 0.06).sum()))
        assert 10 < areas[0] < areas[1]


def test_cupping_enlarges_the_pale_centre_of_the_disc():
    for seed in range(2):
        pale = [
            int((draw(replace(NORMAL, cup_ratio=ratio), seed)[..., 2] > 0.5).sum())
            for ratio in (0.3, 0.8)
        ]
        assert pale[1] > 1.5 * pale[0]


def test_size_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        draw(NORMAL, size=0)


def test_text_names_what_is_there():
    rng = np.random.default_rng(0)
    keywords, description = describe(
        FundusSpec(
            eye="left", haemorrhages="many", exudates="few", drusen="several", cup_ratio=0.8
        ),
        rng,
    )
    assert keywords == (
        "non-proliferative diabetic retinopathy (npdr), retinal hemorrhages, hard exudates, "
        "drusen, optic disc cupping"
    )
    for word in ("left", "many", "hemorrhages", "few", "exudates", "several", "drusen", "0.8"):
        assert word in description.lower()
    assert describe(NORMAL, rng)[0] == "normal fundus"


def test_plan_is_exact_patientwise_and_even():
    planned = plan_fundus(600, seed=0, shares=SHARES)
    assert len(planned) == len({p.path for p in planned}) == 600
    counts = Counter(p.split for p in planned)
    for split, share in zip(("train", "validate", "test"), SHARES, strict=True):
        assert abs(counts[split] - 600 * share) <= 2
    split_of = {}
    for picture in planned:
        group = picture.path.rpartition("/")[2].split("-")[0]
        assert split_of.setdefault(group, picture.split) == picture.split
    test = [p.spec for p in planned if p.split == "test"]
    for name in ("haemorrhages", "exudates", "drusen", "cupping"):
        assert sum(bool(getattr(spec, name)) for spec in test) >= 20
    assert plan_fundus(60, seed=0, shares=SHARES) == planned[:60]


def test_layout_of_the_files(collection):
    entries = {}
    for name, folder in (("train", "train_set"), ("valid", "val_set"), ("test", "test_set")):
        for item in json.loads((collection / f"DeepEyeNet_{name}.json").read_text()):
            ((path, fields),) = item.items()
            assert path.startswith(f"eyenet0420/{folder}/")
            assert set(fields) == {"keywords", "clinical-description"}
            entries[path] = fields
    assert len(entries) == NUM
    on_disk = {p.relative_to(collection).as_posix() for p in collection.rglob("*.jpg")}
    assert on_disk == set(entries)


def test_interruption_resumes_to_the_same_bytes(collection, tmp_path, monkeypatch):
    real, calls = phantom_fundus.jpeg_bytes, []

    def failing(picture, *, seed, size):
        calls.append(picture.path)
        if len(calls) == 21:
            raise KeyboardInterrupt
        return real(picture, seed=seed, size=size)

    root = tmp_path / "fundus"
    monkeypatch.setattr(phantom_fundus, "jpeg_bytes", failing)
    with pytest.raises(KeyboardInterrupt):
        draw_photographs(options(root))
    assert not (root / "manifest.json").exists()
    draw_photographs(options(root))
    assert content(root) == content(collection)
    with pytest.raises(RequestError, match="seed"):
        draw_photographs(options(root, seed=5))


def test_everything_enters_through_the_deepeyenet_adapter(collection):
    adapter = PhantomFundus(options(collection))
    items = [adapter.complete(item, str) for item in adapter.items()]
    assert adapter.num_items() == len(items) == NUM
    planned = {p.path: p for p in plan_fundus(NUM, seed=0, shares=SHARES)}
    assert all(isinstance(item, Sample) for item in items)
    assert {item.source for item in items} == set(planned)
    assert "drusen" in adapter.label_names
    for item in items:
        picture = planned[item.source]
        assert item.split == picture.split
        assert picture.description in item.prompt
        assert item.labels["drusen"] == int(picture.spec.drusen is not None)
    pixels = adapter.read(items[0]).pixels
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
