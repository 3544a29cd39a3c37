"""Requirement 7: the view a prompt asks for, and the view the picture shows."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from arra_med.datasets.views import VIEWS
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.view import ViewPictures, view_asked, view_test

CENTRES = {"PA": (4, 0, 0), "AP": (0, 4, 0), "lateral": (0, 0, 4)}


@pytest.mark.parametrize(
    ("prompt", "view"),
    [
        ("PA view chest x-ray image, clear.", "PA"),
        ("lateral view chest x-ray image, PA view is normal.", "lateral"),
        ("left lateral decubitus view chest x-ray image, left effusion.", "LLD"),
        ("cross-table lateral view of the chest", "XTABLE LATERAL"),
        ("Effusion, small. AP view.", "AP"),
        ("Portable AP chest radiograph: clear.", "AP"),
        ("pa chest film", "PA"),
        ("chest x-ray image, left lateral chest wall intact.", None),
        ("Clear on PA and lateral view.", None),
        ("Clear on AP view and lateral view.", None),
        ("chest x-ray image, opacity best seen on the lateral view.", None),
        ("chest x-ray image, opacity seen by lateral view.", None),
        ("Frontal and lateral: opacity. Large on lateral view.", None),
        ("AP view chest x-ray image, opacity best seen on the lateral view.", "AP"),
        ("chest x-ray image, clear. PA and lateral views.", None),
        ("fundus image, drusen in view of the disc.", None),
        ("", None),
    ],
)
def test_the_prompt_s_words_say_which_view_is_asked(prompt: str, view: str | None) -> None:
    assert view_asked(prompt) == view


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_that_a_prompt_can_be_made_with_is_read(view: str) -> None:
    assert view_asked(f"{view} view chest x-ray image, left effusion.") == view


def pictures(views: Sequence[str | None], seed: int, shown: Sequence[str] = ()) -> ViewPictures:
    """Features around the centre of the view shown, by default the one said."""
    noise = np.random.default_rng(seed).normal(size=(len(views), 4)) * (1, 1, 1, 0)
    centres = [(*CENTRES.get(view or "PA", (-4, -4, -4)), 7) for view in shown or views]
    return ViewPictures(features=(noise + centres).astype(np.float32), views=views)


def bootstrap(num: int, of_patient: int = 2) -> ClusteredBootstrap:
    clusters = [str(i // of_patient) for i in range(num)]
    return ClusteredBootstrap(clusters, replicates=200, generator=np.random.default_rng(0))


def run(train: ViewPictures, real: ViewPictures, generated: ViewPictures):
    return view_test(
        train=train,
        real=real,
        generated=generated,
        real_bootstrap=bootstrap(len(real.views)),
        generated_bootstrap=bootstrap(len(generated.views)),
    )


TRAIN = pictures(["PA", "AP", "lateral"] * 20 + [None] * 5 + ["LLD"] * 3, 0)
REAL = pictures(["PA", "AP", "lateral", None] * 10, 1)


def test_agreement_counts_what_was_asked_and_shown() -> None:
    asked = ["PA"] * 20 + ["AP"] * 10 + [None] * 4 + ["LLD"] * 2
    shown = ["PA"] * 20 + ["PA"] * 5 + ["AP"] * 5 + ["lateral"] * 6
    result, note = run(TRAIN, REAL, pictures(asked, 2, shown))
    assert note is None
    assert result["n"] == 30
    assert result["agreement"]["value"] == pytest.approx(25 / 30)
    assert result["agreement"]["low"] < 25 / 30 < result["agreement"]["high"]
    assert result["agreement"]["n"] == 30
    assert (result["agreement_real"]["value"], result["agreement_real"]["n"]) == (1, 30)
    ap, pa = result["by_view"]
    assert (ap["view"], ap["n"], ap["shown_as"]) == ("AP", 10, {"AP": 5, "PA": 5})
    assert (ap["agreement"]["value"], ap["agreement"]["n"]) == (0.5, 10)
    assert ap["agreement_real"]["n"] == 10
    assert (pa["view"], pa["shown_as"]) == ("PA", {"PA": 20})
    assert "LLD (2 asked, 3 training)" in result["left_out_note"]


def test_pictures_that_ignore_the_view_agree_by_chance() -> None:
    rng = np.random.default_rng(3)
    asked = list(rng.choice(["PA", "AP"], 400))
    shown = list(rng.choice(["PA", "AP"], 400))
    result, _ = run(TRAIN, REAL, pictures(asked, 4, shown))
    assert result["agreement"]["low"] < 0.5 < result["agreement"]["high"]


def test_a_rare_view_is_recognised() -> None:
    train = pictures(["PA"] * 500 + ["AP"] * 10, 5)
    result, _ = run(train, REAL, pictures(["AP"] * 20, 6))
    assert result["agreement"]["value"] > 0.9


def test_views_of_no_real_test_picture_have_no_ceiling() -> None:
    result, _ = run(TRAIN, pictures(["PA"] * 6, 7), pictures(["AP"] * 6, 8))
    assert result["by_view"][0]["agreement_real"] is None
    assert result["by_view"][0]["agreement_real_note"] == "no picture of this view"


@pytest.mark.parametrize(
    ("right", "refused"),
    [
        ((5, 5, 5), r"views 0\.50, chance is 0\.33, and 0\.60 is needed"),
        ((10, 0, 0), r"views 0\.33,"),  # the same view everywhere
        ((6, 6, 6), None),
        ((10, 8, 0), None),
    ],
)
def test_a_classifier_that_does_not_know_real_views_tests_nothing(
    right: tuple[int, int, int], refused: str | None
) -> None:
    """Of 3 views, 1/3 is chance, and 0.4 of the way to 1 is needed, as an AUROC of 0.7 is."""
    views, shown = ["PA"] * 10 + ["AP"] * 10 + ["lateral"] * 10, []
    for view, other, count in zip(("PA", "AP", "lateral"), ("AP", "PA", "PA"), right, strict=True):
        shown += [view] * count + [other] * (10 - count)
    result, note = run(TRAIN, pictures(views, 10, shown), pictures(["PA"] * 20, 11))
    assert (result is None) == (refused is not None)
    if refused:
        assert note.startswith("the classifier does not know the views of real pictures")
        assert re.search(refused, note)


def test_scale_and_constant_features_do_not_matter() -> None:
    generated = pictures(["PA", "AP"] * 10, 9)
    scaled = [
        ViewPictures(features=set_.features * np.float32([1e3, 1e-3, 1, 1]), views=set_.views)
        for set_ in (TRAIN, REAL, generated)
    ]
    assert run(*scaled)[0]["agreement"] == run(TRAIN, REAL, generated)[0]["agreement"]


@pytest.mark.parametrize(
    ("train", "asked", "why"),
    [
        ([None] * 30, ["PA"], "no real training picture has a view"),
        (["PA"] * 30 + ["AP"] * 9, ["PA"], r"two views \(there: AP 9, PA 30\)"),
        (["PA", "AP"] * 20, [None], "no prompt names a view"),
        (["PA", "AP"] * 20, ["LLD"], "too few real training pictures of the views asked: LLD"),
    ],
)
def test_it_says_why_there_is_no_test(train: list, asked: list, why: str) -> None:
    result, note = run(pictures(train, 0), REAL, pictures(asked, 1))
    assert result is None
    assert re.search(why, note)


def test_features_and_views_must_agree() -> None:
    with pytest.raises(ValueError, match="expected"):
        ViewPictures(features=np.zeros((3, 2), np.float32), views=["PA"])
