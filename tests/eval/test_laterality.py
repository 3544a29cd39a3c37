"""Requirement 7: a finding is drawn on the side the prompt asks for, and moves with the prompt."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from arra_med.datasets.phantom.chest import draw_chest
from arra_med.datasets.phantom.findings import ChestSpec
from arra_med.errors import RequestError
from arra_med.eval.laterality import (
    SidedPictures,
    half_pictures,
    laterality_test,
    match_swapped,
)
from arra_med.images import decode_png, encode_png
from arra_med.sides import exchange_one_side

FINDINGS = ("Cardiomegaly", "Pleural Effusion", "Pneumothorax")
OTHER = {"left": "right", "right": "left"}


def picture(side: str | None, *, level: int = 200) -> bytes:
    """Dark but for a bright block on one side of the patient, on the other side of the picture."""
    pixels = np.full((8, 8, 1), 20, np.uint8)
    if side is not None:
        pixels[4:, {"left": slice(6, 8), "right": slice(0, 2)}[side]] = level
    return encode_png(pixels)


def judge(pngs, what):
    """Brightness of the lower half, whatever the finding."""
    light = [decode_png(png)[4:].mean() / 255 for png in pngs]
    return np.repeat(np.array(light, np.float32)[:, None], len(FINDINGS), axis=1)


def sided(asked, shown, *, finding="pleural effusion", view="PA", label=None) -> SidedPictures:
    """Pictures of prompts that ask for ``asked`` and show ``shown``, two of each patient."""
    count = len(asked)
    return SidedPictures(
        keys=[f"k{i}" for i in range(count)],
        indices=[0] * count,
        prompts=[f"PA view chest x-ray image, Small {side} {finding}." for side in asked],
        labels=[{"Pleural Effusion": label, "Pneumothorax": None}] * count,
        views=[view] * count,
        patients=[f"p{i // 2}" for i in range(count)],
        pngs=[picture(side) for side in shown],
    )


def run(generated, real=None, swapped=None, predict=judge):
    return laterality_test(
        findings=FINDINGS,
        predict=predict,
        generated=generated,
        real=generated if real is None else real,
        swapped=swapped,
        replicates=100,
        generator=np.random.default_rng(0),
    )


@pytest.mark.parametrize("width", [4, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_half_is_doubled_by_its_mirror_image(width: int, channels: int) -> None:
    pixels = np.arange(2 * width * channels, dtype=np.uint8).reshape(2, width, channels)
    right, left = map(decode_png, half_pictures(encode_png(pixels)))
    middle = [2] if width == 5 else []
    np.testing.assert_array_equal(right, pixels[:, [0, 1, *middle, 1, 0]])
    a, b = width - 1, width - 2
    np.testing.assert_array_equal(left, pixels[:, [a, b, *middle, b, a]])


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_patient_s_left_is_on_the_right_of_a_frontal_film(side: str) -> None:
    """Fluid drawn on one side of the same body brightens that side's doubled half."""
    brightness = []
    for effusion in ({}, {side: "moderate"}):
        spec = ChestSpec(view="PA", effusion=effusion)
        film = (255 * draw_chest(spec, 64, np.random.default_rng(0))).astype(np.uint8)
        brightness.append([decode_png(half).mean() for half in half_pictures(encode_png(film))])
    right, left = np.subtract(*brightness[::-1])
    here, there = (left, right) if side == "left" else (right, left)
    assert here > 2
    assert here > 2 * abs(there)


def test_pictures_that_follow_the_prompt_are_counted() -> None:
    asked = ["left", "right"] * 20
    shown = list(asked)
    for i in (0, 2, 4, 6, 1, 3):  # 16 of 20 on the left, 18 of 20 on the right
        shown[i] = OTHER[asked[i]]
    result, note = run(sided(asked, shown), real=sided(asked, asked))
    assert note is None
    assert result["n"] == 40
    assert result["followed"]["value"] == pytest.approx((16 / 20 + 18 / 20) / 2)
    assert 0.6 < result["followed"]["low"] < 0.85 < result["followed"]["high"] < 0.97
    assert result["followed_real"]["value"] == 1
    (row,) = result["by_finding"]
    assert (row["finding"], row["n"]) == ("Pleural Effusion", 40)
    assert row["followed"]["value"] == result["followed"]["value"]
    assert result["swapped"] is None
    assert "no pictures with exchanged sides" in result["swapped_note"]


def test_always_the_same_side_is_chance_however_often_it_is_asked() -> None:
    asked = ["left"] * 30 + ["right"] * 3
    result, _ = run(sided(asked, ["left"] * 33))
    assert result["followed"]["value"] == 0.5


def test_one_finding_on_a_side_is_not_taken_as_known() -> None:
    asked = ["left"] + ["right"] * 40
    result, _ = run(sided(asked, ["left"] + ["left", "right"] * 20))
    assert result["followed"] == {"value": 0.75, "low": None, "high": None, "n": 41}
    assert "of one patient" in result["followed_note"]
    few, _ = run(sided(["left"] * 6 + asked[1:], ["left"] * 6 + ["left", "right"] * 20))
    assert few["followed"]["low"] < 0.5 < few["followed"]["high"]  # three patients on the left


def test_no_preference_counts_one_half() -> None:
    result, _ = run(sided(["left", "right"] * 10, [None] * 20))
    assert result["followed"]["value"] == 0.5


def test_sides_that_change_with_the_prompt_are_told_from_those_that_do_not() -> None:
    asked = ["left", "right"] * 15
    turned = [OTHER[side] for side in asked]
    good, _ = run(sided(asked, asked), swapped=sided(turned, turned))
    assert good["swapped"]["n"] == 30
    assert good["swapped"]["followed"]["value"] == 1
    assert good["swapped"]["flipped"] == good["swapped"]["followed"]
    deaf, _ = run(sided(asked, asked), swapped=sided(turned, asked))
    assert deaf["swapped"]["followed"]["value"] == 0
    assert deaf["swapped"]["flipped"]["value"] == 0
    shown = [OTHER[side] if i < 12 else side for i, side in enumerate(asked)]
    partly, _ = run(sided(asked, asked), swapped=sided(turned, shown))
    assert partly["swapped"]["flipped"]["value"] == pytest.approx(12 / 30)


def test_only_pairs_of_one_key_flip() -> None:
    asked = ["left", "right"] * 10
    turned = [OTHER[side] for side in asked][:5]
    result, _ = run(sided(asked, asked), swapped=sided(turned, turned))
    assert result["swapped"]["n"] == result["swapped"]["flipped"]["n"] == 5


def test_a_finding_with_few_pictures_has_no_row() -> None:
    few = sided(["left", "right"] * 9, ["left", "right"] * 9)
    result, _ = run(few)
    assert result["n"] == 18
    assert result["by_finding"] == []


def test_several_findings_of_a_picture_count_each() -> None:
    both = "pneumothorax. Left pleural effusion"
    result, _ = run(sided(["right"] * 20, ["left"] * 20, finding=both))
    assert result["n"] == 40
    assert result["followed"]["value"] == 0.5
    effusion, pneumothorax = result["by_finding"]  # each on one side alone
    assert effusion["followed"] is pneumothorax["followed"] is None
    assert "needs findings asked for on both sides" in effusion["followed_note"]


@pytest.mark.parametrize(
    "pictures",
    [
        sided(["left", "right"], ["left", "right"], view="lateral"),
        sided(["left", "right"], ["left", "right"], view=None),  # fundus
        sided(["left", "right"], ["left", "right"], label=0),
        sided(["left", "right"], ["left", "right"], label=-1),
        sided(["bilateral", "no"], ["left", "right"]),
        sided(["left", "right"], ["left", "right"], finding="cardiomegaly"),
        sided(["left", "right"], ["left", "right"], finding="consolidation"),  # not judged
    ],
)
def test_it_says_why_there_is_no_test(pictures: SidedPictures) -> None:
    def never(pngs, what):
        raise AssertionError("nothing is to be judged")

    result, note = run(pictures, predict=never)
    assert result is None
    assert "no prompt of a frontal chest film" in note


def test_one_side_alone_proves_nothing() -> None:
    result, note = run(sided(["left"] * 9, ["left"] * 9))
    assert result is None
    assert note == "all 9 findings asked for on one side are on the left"


def test_real_pictures_of_other_prompts_do_not_count() -> None:
    asked = ["left", "right"] * 12
    generated = sided(asked[:10], asked[:10])
    result, _ = run(generated, real=sided(asked, asked))
    assert result["followed_real"]["n"] == 10


def test_inputs_must_agree() -> None:
    with pytest.raises(ValueError, match="expected as many of each"):
        sided(["left"], ["left", "right"])
    with pytest.raises(ValueError, match=r"expected \(4, 3\)"):
        run(sided(["left", "right"], ["left", "right"]), predict=lambda pngs, what: np.zeros(4))


def test_a_damaged_picture_is_named() -> None:
    pictures = sided(["left", "right"], ["left", "right"])
    for png in (picture("left")[:60], b"no picture"):
        damaged = replace(pictures, pngs=[pictures.pngs[0], png])
        with pytest.raises(RequestError, match="picture k1-0 cannot be read"):
            run(damaged)


def folder(name: str, prompts: dict[str, str], **config: object) -> SimpleNamespace:
    """What is read of a generated folder."""
    rows = [{"key": key, "index": 0, "prompt": text} for key, text in prompts.items()]
    settings = {"model": {"content_hash": "a"}, "seed": 0, "guidance": 2.0, "limit": None}
    return SimpleNamespace(folder=name, rows=rows, manifest={"config": settings | config})


PROMPTS = {"a": "Left effusion.", "b": "clear.", "c": "Right pneumothorax."}
TURNED = {key: text for key, old in PROMPTS.items() if (text := exchange_one_side(old))}


def test_swapped_pictures_are_matched_with_their_counterparts() -> None:
    swapped = folder("s", TURNED, swap_sides=True, limit=3, part_size=3)
    generated = folder("g", {"a": PROMPTS["a"]}, swap_sides=False)
    assert match_swapped(folder("g", PROMPTS), swapped) == swapped.rows
    assert match_swapped(generated, swapped) == swapped.rows[:1]


@pytest.mark.parametrize(
    ("swapped", "message"),
    [
        (folder("s", TURNED), "s was not drawn with generation.swap_sides"),
        (folder("s", TURNED, swap_sides=True, seed=1), "s and g differ in seed"),
        (folder("s", TURNED, swap_sides=True, model=None, top_k=3), "differ in model, top_k"),
        (folder("s", PROMPTS, swap_sides=True), "3 prompts are not those .* first key 'a'"),
        (folder("s", {"z": "Left effusion."}, swap_sides=True), "no picture has the key"),
    ],
)
def test_other_pictures_are_refused_without_their_text(swapped, message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        match_swapped(folder("g", PROMPTS), swapped)
    assert "effusion" not in str(error.value)
