"""The search for copies on a prepared folder: honest pictures pass, copied patients are named."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arra_med.eval import privacy
from arra_med.eval.inference import FolderPictures, PictureSource, predict
from arra_med.eval.pixel_features import PixelExtractor, pixel_features
from arra_med.eval.planted import MUST_FIND
from arra_med.eval.privacy import (
    CopySearch,
    SearchSpace,
    equal_pictures,
)
from arra_med.eval.summary_privacy import memorisation_sentences
from arra_med.images import decode_png
from arra_med.store import PreparedFolder
from tests.eval.films import (
    CPU,
    ENCODER,
    HELD_OUT,
    MADE,
    PLANTED,
    TRAIN,
    encode,
    film,
    honest,
    of_test,
    save,
    save_small,
    search,
    section_of,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    """160 patients to train on, 120 others in two splits; one film stands there three times."""
    half = HELD_OUT // 2
    splits = {
        "train": [film(i // 2, i % 2) for i in range(TRAIN)],
        "validate": [film(1000 + i // 2, i % 2) for i in range(half)],
        "test": [film(2000 + i // 2, i % 2) for i in range(half)],
    }
    for index in (5, 201):  # of the same patient and of another
        splits["train"][index] = splits["train"][4]
    return save(tmp_path_factory.mktemp("privacy") / "prepared", splits)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    return save_small(tmp_path_factory.mktemp("small") / "prepared")


@pytest.fixture(scope="module")
def passed(prepared: PreparedFolder) -> CopySearch:
    return search(prepared, honest())


def test_requirement_11_faithful_copies_are_found_at_one_false_match_in_100(
    passed: CopySearch,
) -> None:
    section = section_of(passed)
    assert section["false_match_rate"] == 0.01
    assert section["detects"] is True
    controls = {row["kind"]: row for row in section["controls"]}
    for kind in MUST_FIND:
        row = controls[kind]
        assert row["must_find"] is True
        assert row["n"] == PLANTED
        assert row["found"] >= 0.95 * PLANTED
        assert row["traced"] >= 0.95 * PLANTED
        assert row["rate"]["value"] == row["found"] / PLANTED
    assert controls["flip"]["must_find"] is False
    assert controls["flip"]["found"] < PLANTED
    assert [space["name"] for space in section["spaces"]] == ["pixels", "encoder"]
    for space in section["spaces"]:
        assert space["resolved"] is True
        assert space["false_matches"]["low"] <= 0.005


def test_requirement_11_an_honest_generator_is_not_accused(passed: CopySearch) -> None:
    section = section_of(passed)
    counts = (section["n_train"], section["n_held_out"], section["n_generated"])
    assert counts == (TRAIN, HELD_OUT, MADE)
    assert section["num_matches"] <= 2
    assert section["share"]["value"] == section["num_matches"] / MADE
    assert section["share"]["low"] <= 0.01
    assert section["notes"][0] == (
        "Thresholds are fixed on 240 real pictures that were not trained on (test and validate "
        "split)."
    )


def test_blank_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    """A blank training picture makes no copies of those that failed to be drawn."""
    blank = np.zeros_like(film(0))
    prepared = save(
        tmp_path / "prepared",
        {
            "train": [blank, *(film(i // 2, i % 2) for i in range(2, 60))],
            "test": [film(2000 + i // 2, i % 2) for i in range(60)],
        },
    )
    drawn = [film(5000 + i) for i in range(12)]
    copied = [*drawn[:5], film(7, 0), *drawn[6:]]
    mixed = [*[blank] * 4, *copied]
    section, expected = (section_of(search(prepared, of_test(made))) for made in (mixed, copied))
    assert (section["constant"], section["n_generated"]) == (4, 12)
    assert section["share"] == expected["share"]
    assert [match["distance"] for match in section["matches"]] == [
        match["distance"] for match in expected["matches"]
    ]
    assert (section["matches"][0]["key"], section["matches"][0]["index"]) == ("test004", 1)
    sentences = memorisation_sentences({"memorisation": section})
    assert any("4 generated pictures of one value throughout" in said for said in sentences)
    closest = search(prepared, of_test(mixed)).closest
    assert closest[0].row == 9
    assert min(near.row for near in closest) >= 4
    empty = search(prepared, of_test([blank] * 4))
    assert (empty.section, "of one value throughout" in empty.note) == (None, True)


def test_requirement_11_a_generator_of_copies_is_caught(prepared: PreparedFolder) -> None:
    """Training films under test prompts, half of them with noise of ±2."""
    rng = np.random.default_rng(1)
    originals = [film(i // 2, i % 2) for i in range(100, 100 + MADE)]
    made = [
        np.clip(picture + (i % 2) * rng.integers(-2, 3, picture.shape), 0, 255).astype(np.uint8)
        for i, picture in enumerate(originals)
    ]
    generated = of_test(made)
    patients = [*generated.patients]
    patients[6] = "train-p53"  # the prompt was of the very patient whose film this is
    found = search(prepared, replace(generated, patients=patients))
    section = section_of(found)
    assert section["share"]["value"] >= 0.95
    assert section["share"]["low"] >= 0.75  # of 16 patients, all of whose pictures match
    assert section["num_matches"] >= 0.95 * MADE
    assert 1 < section["num_train_matched"] <= section["num_matches"]
    assert len(section["matches"]) == 20
    distances = [match["distance"] for match in section["matches"]]
    assert distances[0] == 0
    own = [match for match in section["matches"] if match["own_patient"]]
    assert [(match["key"], match["index"]) for match in own] == [("test003", 0)]
    for match in section["matches"]:
        row = 2 * int(match["key"][-3:]) + match["index"]
        assert match["train_key"] == f"train{100 + row:03d}"
    assert [closest.distance for closest in found.closest[:30:2]] == [0] * 10
    for closest in found.closest:
        assert closest.train_key == f"train{100 + closest.row:03d}"


def test_the_closest_are_named_though_none_is_a_copy(
    prepared: PreparedFolder, passed: CopySearch
) -> None:
    """Nearest first, each in the space where it is nearest for what is usual there."""
    assert len(passed.closest) == privacy.MOST_CLOSEST
    assert len({closest.row for closest in passed.closest}) == privacy.MOST_CLOSEST
    extractors: dict[str, Callable[[PictureSource, str], Any]] = {
        "encoder": encode,
        "pixels": lambda source, what: pixel_features([decode_png(png) for png in source]),
    }
    pngs = honest().pngs
    for closest in passed.closest[:3]:
        pair = [pngs[closest.row], prepared.images([closest.train_key])[closest.train_key]]
        first, second = extractors[closest.space](pair, "").astype(np.float64)
        if closest.space == "encoder":
            first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
        assert closest.distance == pytest.approx(np.linalg.norm(first - second), rel=1e-4)


def test_histograms_share_their_edges_and_count_everything(passed: CopySearch) -> None:
    for space in section_of(passed)["spaces"]:
        histogram = space["histogram"]
        edges = histogram["edges"]
        assert edges == sorted(edges)
        assert edges[0] == 0 < space["threshold"] < edges[-1]
        sums = {name: sum(counts) for name, counts in histogram.items() if name != "edges"}
        assert sums == {"generated": MADE, "held_out": HELD_OUT, "same_patient": TRAIN} | {
            "planted": 3 * PLANTED
        }
        assert space["same_patient_matches"]["n"] == TRAIN
        beneath = [right <= space["threshold"] for right in edges[1:]]
        near = sum(
            count for count, inside in zip(histogram["planted"], beneath, strict=True) if inside
        )
        assert near > 2 * PLANTED


def test_equal_training_pictures_are_counted_and_not_copied(
    prepared: PreparedFolder, passed: CopySearch
) -> None:
    """A copy of a picture that stands there twice has two originals."""
    section = section_of(passed)
    assert section["train_duplicates"] == 2
    assert any(note.startswith("2 training pictures equal an earlier") for note in section["notes"])
    keys = [f"train{index:03d}" for index in range(TRAIN)]
    pictures = [decode_png(png) for png in prepared.images(keys).values()]
    twins = equal_pictures(prepared, keys, pixel_features(pictures))
    assert sorted(twins) == [4, 5, 201]
    assert len(set(twins.values())) == 1
    # pictures that are alike at 32 × 32 only are no twins
    alike = np.zeros((TRAIN, 4), np.float32)
    assert sorted(equal_pictures(prepared, keys, alike)) == [4, 5, 201]


def test_pixels_are_the_same_whoever_averages_them(prepared: PreparedFolder) -> None:
    keys = ["test003", "train000"]
    source = FolderPictures(prepared, keys)
    found = predict(PixelExtractor(), source, batch_size=1, device=CPU, what="pixels")
    pictures = [decode_png(prepared.images([key])[key]) for key in keys]
    np.testing.assert_array_equal(found, pixel_features(pictures))
    with pytest.raises(ValueError, match="32, 32"):
        PixelExtractor()(torch.zeros(2, 1, 16, 16))


def test_requirement_13_two_runs_are_equal(prepared: PreparedFolder, passed: CopySearch) -> None:
    assert search(prepared, honest()) == passed


def test_a_search_that_misses_copies_says_so(small: PreparedFolder) -> None:
    """Held-out pictures that equal training pictures of other patients leave no room for JPEG."""
    twice = [film(i // 2, i % 2) for i in range(40)]
    leaky = save(small.folder.parent / "leaky", {"train": twice, "test": twice})
    section = section_of(search(leaky, honest(10)))
    assert section["detects"] is False
    assert any("finds no copy says nothing" in note for note in section["notes"])
    assert any(note.startswith("40 held-out pictures equal") for note in section["notes"])


def test_an_extractor_that_saw_the_training_pictures_is_named(small: PreparedFolder) -> None:
    fitted = replace(ENCODER, name="cnn-64", fitted_on_train=True)
    notes = section_of(search(small, honest(8), fitted))["notes"]
    assert [note for note in notes if note.startswith("cnn-64 was fitted on the training")]


def test_what_cannot_be_searched_is_said(tmp_path: Path) -> None:
    pictures = [film(i) for i in range(6)]
    only_test = save(tmp_path / "a", {"test": pictures})
    only_train = save(tmp_path / "b", {"train": pictures})
    found = search(only_test, honest())
    assert (found.section, found.closest) == (None, ())
    assert "no training pictures of two patients" in found.note
    assert "outside its training split" in search(only_train, honest()).note
    assert "no generated picture" in search(only_train, of_test([])).note


def test_one_space_is_in_memory_at_a_time(small: PreparedFolder) -> None:
    made: list[weakref.ref[Any]] = []

    def watched(source: PictureSource, what: str) -> NDArray[np.float32]:
        if what.endswith(": training"):
            assert all(features() is None for features in made)
        features = encode(source, what)
        made.append(weakref.ref(features))
        return features

    spaces = [SearchSpace(name=name, extract=watched) for name in ("a", "b")]
    search(small, honest(8), *spaces)
    assert len(made) == 8


def test_more_held_out_pictures_than_needed_are_drawn(
    small: PreparedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "MOST_HELD_OUT", 30)
    section = section_of(search(small, honest(8)))
    assert section["n_held_out"] == 30
    assert "on 30 real pictures drawn from 40" in section["notes"][0]
