"""Chest phantoms of rich anatomy: what is drawn, what is written of it, and that they agree."""

import hashlib
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from arra_med.datasets.labeller import label_text
from arra_med.datasets.phantom.chest import draw_chest
from arra_med.datasets.phantom.cxr_files import dicom_bytes, stored_pixels
from arra_med.datasets.phantom.cxr_plan import plan_studies
from arra_med.datasets.phantom.findings import (
    LOBES,
    RICH_FINDINGS,
    SIDES,
    SIZES,
    VIEWS,
    ZONES,
    Atelectasis,
    ChestSpec,
    Nodule,
    Opacity,
    PleuralChange,
    RibFracture,
    lobe_side,
    zones_of,
)
from arra_med.datasets.phantom.reports import DEGREE
from arra_med.datasets.phantom.rich_spec import sample_rich_habitus, sample_rich_spec
from arra_med.datasets.phantom_cxr import PhantomCxr, draw_films
from arra_med.datasets.reports import to_prompt
from arra_med.errors import RequestError
from arra_med.schema import PRESENT

SIZE = 128
SHARES = (0.7, 0.1, 0.2)
NORMAL = ChestSpec(view="PA")
COLLAPSIBLE = ("right upper lobe", "right lower lobe", "left upper lobe", "left lower lobe")


def draw(spec, seed, size=SIZE):
    return draw_chest(spec, size, np.random.default_rng(seed), "rich")


def studies(num, seed=0):
    return plan_studies(num, seed=seed, shares=SHARES, anatomy="rich")


@cache
def healthy(view, seed):
    return draw(replace(NORMAL, view=view), seed)


def change(view, seed, **findings):
    """What findings add to a healthy body, smoothed, by side: the patient's right is first."""
    ill = draw(replace(NORMAL, view=view, **findings), seed)
    added = gaussian_filter(ill - healthy(view, seed), 1)
    return {"right": added[:, : SIZE // 2], "left": added[:, SIZE // 2 :]}


def one_sided(side):
    """Every finding that has a side, at each of its severities, on the given one."""
    found = []
    for size in SIZES:
        found += [{"opacity": Opacity(sides=(side,), zone=zone, size=size)} for zone in ZONES]
        for kind in ("thickening", "plaques", "apical"):
            found.append({"pleura": PleuralChange(kind=kind, sides=(side,), size=size)})
        found += [{"effusion": {side: size}}, {"pneumothorax": (side, size)}]
        if size != "large":
            found.append({"atelectasis": Atelectasis(sides=(side,), lobe=None, size=size)})
        if size != "small":
            found += [
                {"atelectasis": Atelectasis(sides=(side,), lobe=lobe, size=size)}
                for lobe in COLLAPSIBLE
                if lobe_side(lobe) == side
            ]
    found += [
        {"fracture": RibFracture(side=side, first=first, count=count)}
        for first, count in ((3, 1), (5, 2), (7, 3))
    ]
    found += [{"consolidation": lobe} for lobe in LOBES if lobe_side(lobe) == side]
    found += [{"nodule": Nodule(side=side, zone=zone, diameter=2.2)} for zone in ZONES]
    return found


def test_simple_films_and_reports_are_as_they_always_were():
    digest = hashlib.sha256()
    for study in plan_studies(60, seed=0, shares=SHARES)[:8]:
        for picture in study.pictures:
            digest.update(stored_pixels(study, picture, 48).tobytes())
        digest.update(study.report.text.encode())
    expected = "3f03b92afcbdb805916c6711d194f1636bc0aa3119251e4eab3dd75496d49cf5"
    assert digest.hexdigest() == expected


def test_same_generator_same_picture_and_range():
    for view in VIEWS:
        spec = replace(NORMAL, view=view, habitus=sample_rich_habitus(np.random.default_rng(1)))
        one = draw(spec, 3)
        assert one.dtype == np.float32
        assert one.shape == (SIZE, SIZE)
        assert 0 <= one.min() < one.max() <= 1
        assert np.array_equal(one, draw(spec, 3))
        assert not np.array_equal(one, draw(spec, 4))
        assert np.abs(one - draw_chest(spec, SIZE, np.random.default_rng(3))).mean() > 0.01


@pytest.mark.parametrize("size", [17, 64, 200])
def test_every_size(size):
    assert draw(NORMAL, 0, size).shape == (size, size)


def test_simple_anatomy_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="cannot show Edema"):
        draw_chest(replace(NORMAL, edema="small"), SIZE, np.random.default_rng(0))


def test_a_picture_does_not_depend_on_how_many_there_are():
    few, many = studies(60), studies(200)
    for one, other in zip(few[:-1], many, strict=False):
        assert one.report == other.report
        assert (one.spec, one.split, one.pictures) == (other.spec, other.split, other.pictures)
    study = many[7]
    before = dicom_bytes(study, study.pictures[0], 64)
    dicom_bytes(many[3], many[3].pictures[0], 64)
    assert dicom_bytes(study, study.pictures[0], 64) == before
    assert [s.spec for s in few] != [s.spec for s in studies(60, seed=1)]


@pytest.mark.parametrize(("side", "view"), [("right", "PA"), ("left", "AP")])
def test_a_finding_changes_its_own_side(side, view):
    other = "left" if side == "right" else "right"
    for number, findings in enumerate(one_sided(side)):
        added = change(view, number % 3, **findings)
        own = np.abs(added[side])
        assert own.max() > 0.06, findings
        assert (own > 0.04).sum() > 25, findings
        # fluid, air and a lost lobe push or pull the mediastinum and so all vessels
        moves = {"effusion", "pneumothorax", "atelectasis"} & findings.keys()
        assert (own > 0.04).sum() > (1.3 if moves else 4) * (np.abs(added[other]) > 0.04).sum(), (
            findings
        )


@pytest.mark.parametrize("view", VIEWS)
def test_what_has_no_side_grows_with_its_severity(view):
    for name in ("mediastinum", "edema"):
        for seed in range(2):
            amounts = [
                sum(
                    np.clip(half, 0, None).sum()
                    for half in change(view, seed, **{name: size}).values()
                )
                for size in SIZES
            ]
            assert amounts == sorted(amounts)
            assert amounts[0] > 20


def test_zones_and_ribs_lie_where_they_are_said_to():
    for side in SIDES:
        rows = []
        for zone in ZONES:
            opacity = Opacity(sides=(side,), zone=zone, size="moderate")
            added = np.clip(change("PA", 5, opacity=opacity)[side], 0, None).sum(axis=1)
            rows.append((added * np.arange(SIZE)).sum() / added.sum())
        assert rows == sorted(rows)
        rows = []
        for first in (3, 5, 7):
            fracture = RibFracture(side=side, first=first, count=1)
            added = np.abs(change("PA", 5, fracture=fracture)[side]).sum(axis=1)
            rows.append((added * np.arange(SIZE)).sum() / added.sum())
        assert rows == sorted(rows)


@pytest.mark.parametrize(
    "findings",
    [
        {"mediastinum": "moderate"},
        {"edema": "moderate"},
        {"opacity": Opacity(sides=("left",), zone="lower", size="moderate")},
        {"atelectasis": Atelectasis(sides=("left",), lobe="left lower lobe", size="moderate")},
        {"atelectasis": Atelectasis(sides=SIDES, lobe=None, size="moderate")},
        {"pleura": PleuralChange(kind="thickening", sides=("left",), size="moderate")},
        {"pleura": PleuralChange(kind="plaques", sides=("left",), size="large")},
        {"fracture": RibFracture(side="left", first=5, count=2)},
    ],
)
def test_findings_show_on_the_lateral(findings):
    added = np.concatenate(list(change("lateral", 2, **findings).values()), axis=1)
    assert np.abs(added).max() > 0.05
    assert (np.abs(added) > 0.03).sum() > 20


def test_sampled_findings_are_the_wanted_ones_unless_hidden():
    rng = np.random.default_rng(0)
    hideable = {
        "Consolidation", "Lung Lesion", "Lung Opacity", "Atelectasis", "Pleural Other", "Fracture",
    }  # fmt: skip
    for _ in range(400):
        wanted = frozenset(name for name in RICH_FINDINGS if rng.random() < 0.4)
        spec = sample_rich_spec(rng, findings=wanted)
        assert spec.findings <= wanted
        assert wanted - spec.findings <= hideable
        airless = spec.pneumothorax[0] if spec.pneumothorax else None
        if spec.opacity:
            assert airless not in spec.opacity.sides
            assert not {spec.effusion.get(side) for side in spec.opacity.sides} & {"large"}
            if spec.consolidation and lobe_side(spec.consolidation) in spec.opacity.sides:
                assert spec.opacity.zone not in zones_of(spec.consolidation)
            assert spec.edema != "large"
        if spec.atelectasis:
            assert not set(spec.atelectasis.sides) & ({airless} | set(spec.effusion))
            if spec.atelectasis.lobe:
                assert (lobe_side(spec.atelectasis.lobe),) == spec.atelectasis.sides
        if spec.fracture:
            assert spec.fracture.side != airless
            assert 3 <= spec.fracture.first <= spec.fracture.first + spec.fracture.count - 1 <= 9


@pytest.mark.parametrize("seed", [0, 1])
def test_findings_are_as_frequent_as_they_should_be(seed):
    planned = studies(2000, seed)
    counts = [len(study.spec.findings) for study in planned]
    assert 1.8 < np.mean(counts) < 2.2
    assert max(counts) <= 5
    assert 0.12 < np.mean(np.array(counts) == 0) < 0.18
    share = Counter(name for study in planned for name in study.spec.findings)
    for name in RICH_FINDINGS:
        assert 0.12 < share[name] / len(planned) < 0.28


def test_labels_say_what_is_drawn_and_the_labeller_reads_the_same():
    asked = agreed = normal = 0
    for study in studies(600):
        report = study.report
        assert {n for n in RICH_FINDINGS if report.labels.get(n) == PRESENT} == study.spec.findings
        normal += report.labels.get("No Finding") == PRESENT
        prompt = to_prompt(report.text, "PA")
        assert prompt is not None
        read = {name: value for name, value in label_text(prompt.text).items() if value is not None}
        for name in read.keys() | report.labels.keys():
            asked += 1
            agreed += read.get(name) == report.labels.get(name)
        if report.has_impression:
            assert prompt.source == "impression"
            assert len(prompt.text.split()) <= 60  # the template's five words, and list numbers
    assert agreed / asked >= 0.99
    assert normal > 40


def test_reports_carry_side_place_and_severity():
    for study in studies(600):
        spec, text = study.spec, study.report.text
        said = " ".join(text.split("IMPRESSION:")[-1].split("FINDINGS:")[-1].lower().split())
        if spec.fracture:
            assert f"{spec.fracture.side} " in said
            assert "displaced" in said
        if spec.opacity:
            assert f"{spec.opacity.zone} lung" in said
            assert any(side in said for side in (*spec.opacity.sides, "bilateral", "both"))
        if spec.atelectasis and spec.atelectasis.lobe:
            assert spec.atelectasis.lobe in said
        if spec.edema:
            assert DEGREE[spec.edema] in said
            assert "edema" in said
        if spec.pleura and len(spec.pleura.sides) == 1:
            assert spec.pleura.sides[0] in said


def test_a_folder_of_the_other_anatomy_is_refused(tmp_path):
    def options(root, anatomy):
        return PhantomCxr.Options(root=root, num_samples=12, size=32, anatomy=anatomy, workers=0)

    draw_films(options(tmp_path / "rich", "rich"))
    draw_films(options(tmp_path / "simple", "simple"))
    with pytest.raises(RequestError, match="anatomy"):
        draw_films(options(tmp_path / "rich", "simple"))
    with pytest.raises(RequestError, match="anatomy"):
        draw_films(options(tmp_path / "simple", "rich"))
    adapter = PhantomCxr(options(tmp_path / "rich", "rich"))
    assert adapter.num_items() == len(list(adapter.items())) == 12
