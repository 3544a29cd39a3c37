"""What judges may decide between generators, and what only is shown."""

import json
from dataclasses import replace

import numpy as np
import pytest

from arra_med.eval.comparison_section import _weak
from arra_med.eval.report import write_report
from arra_med.eval.summary_comparison import comparison_sentences
from arra_med.settings.results import OtherPictures
from tests.eval.little import generation_rows, pictures_for, read, write_generated
from tests.eval.test_comparison import (
    FINDINGS,
    KEYS,
    compared,
    generator,
    of_real,
    shared,
    value,
)


def pair(common, rng, **changes):
    """A good and a poor generator."""
    return [
        generator("good", common, rng, skill=1.6, **changes),
        generator("poor", common, rng, skill=0.3, **changes),
    ]


def row_of(section, measure, subject):
    [row] = [r for r in section["measures"] if (r["measure"], r["subject"]) == (measure, subject)]
    return row


def differing(section):
    return {(row["measure"], row["subject"]) for row in section["differences"]}


def test_a_judge_too_weak_to_decide_is_shown_and_not_tested():
    rng = np.random.default_rng(0)
    common = shared(rng, weak={"judge": {"judge": "it reaches 0.65 on real images"}})
    section = compared(pair(common, rng), common)
    for measure, subject in (("auroc", "judge"), ("auroc", "Edema"), ("missed_per_100", "judge")):
        row = row_of(section, measure, subject)
        assert row["subject_note"] == "shown, not tested: it reaches 0.65 on real images"
        assert row["values"][0]["value"] is not None
        assert (measure, subject) not in differing(section)
    assert ("kid", "encoder") in differing(section)


def test_a_finding_that_the_judge_hardly_reads_is_shown_and_not_tested():
    rng = np.random.default_rng(1)
    common = shared(rng, weak={"judge": {"Edema": "hardly recognised on real images"}})
    section = compared(pair(common, rng), common)
    assert "hardly recognised" in row_of(section, "auroc", "Edema")["subject_note"]
    assert {("auroc", "judge"), ("auroc", "Pleural Effusion")} <= differing(section)
    assert ("auroc", "Edema") not in differing(section)


def test_what_the_report_calls_weak_is_weak_between_generators(results):
    judge = results["judges"][0]
    assert _weak(judge) == {}
    judge["findings"][1]["auroc_real"]["value"] = 0.66
    assert _weak(judge) == {
        "Cardiomegaly": "on real images the judge recognises it with an AUROC of 0.66, and 0.70 "
        "are needed"
    }
    judge["overall"]["auroc_real"]["value"] = 0.65
    assert _weak(judge)["cnn-judge-64"].startswith("the judge (cnn-judge-64) is too weak to decide")


def test_a_finding_needs_enough_of_the_prompts_that_all_have():
    """The run has 120 prompts; the peer drew those with effusion and three without."""
    rng = np.random.default_rng(2)
    common = shared(rng, min_positives=4)
    effusion = np.array([common.labels[key]["Pleural Effusion"] for key in KEYS])
    some = sorted([*np.flatnonzero(effusion == 1), *np.flatnonzero(effusion == 0)[:3]])
    ours, peer = pair(common, rng)
    peer = peer.aligned([(KEYS[i], 0) for i in some])
    section = compared([ours, peer], common)
    row = row_of(section, "auroc", "Pleural Effusion")
    why = f"{(effusion == 1).sum()} of the prompts that all have are with it and 3 without; 4 of"
    assert row["subject_note"].startswith(why)
    assert [one["value"] for one in row["values"]] == [None, None]
    assert ("auroc", "Pleural Effusion") not in differing(section)
    assert row_of(section, "auroc", "judge")["subject_note"].startswith("without Pleural Effusion")
    edema = value(section, "auroc", "good", "Edema")
    assert value(section, "auroc", "good", "judge") == edema
    json.dumps(section, allow_nan=False)
    nothing = compared([ours, peer], replace(common, min_positives=1000))
    for measure in ("auroc", "missed_per_100", "invented_per_100"):
        row = row_of(nothing, measure, "judge")
        assert [one["value"] for one in row["values"]] == [None, None]
        assert all(f"without {finding}" in row["subject_note"] for finding in FINDINGS)


def test_real_pictures_of_the_prompts_stand_beside_the_generators():
    rng = np.random.default_rng(3)
    common = shared(rng)
    few = [(KEYS[i], 0) for i in range(80)]
    ours, peer = pair(common, rng)
    section = compared([ours, peer.aligned(few)], common)
    alone = compared([replace(of_real(common.labels).aligned(few), name="r"), ours], common)
    for measure, subject in (("auroc", "judge"), ("auroc", "Edema"), ("missed_per_100", "judge")):
        row = row_of(section, measure, subject)
        assert row["real"] == pytest.approx(value(alone, measure, "r", subject))
        for one in row["values"]:
            gap = one["value"]["value"] - row["real"]["value"]
            assert one["difference_to_real"]["value"] == pytest.approx(gap, abs=1e-9)
    assert "real" not in row_of(section, "kid", "encoder")


def test_a_caricature_is_not_called_better():
    """Its findings are recognised more surely than those of real pictures."""
    rng = np.random.default_rng(4)
    common = shared(rng)
    common = replace(common, ceiling=of_real(common.labels, skill=0.6))
    drawn = [
        generator("honest", common, rng, skill=0.6, text={}),
        generator("caricature", common, rng, skill=4.0, text={}),
    ]
    said = comparison_sentences({"comparison": compared(drawn, common)})
    [auroc] = [line for line in said if line.startswith("AUROC (judge)")]
    assert "caricature lies higher than honest, by" in auroc
    assert auroc.endswith(", a sign of exaggeration.")
    assert "higher than real images (0.8" in auroc
    [missed] = [line for line in said if line.startswith("Missed findings")]
    assert "caricature lies lower than honest, by" in missed
    assert "and lower than real images" in missed
    assert not any("caricature is better" in line for line in said)


def test_the_better_one_below_real_images_is_better():
    rng = np.random.default_rng(5)
    common = shared(rng)
    said = comparison_sentences({"comparison": compared(pair(common, rng), common)})
    assert any(line.startswith("AUROC (judge): good is better than poor, by") for line in said)
    assert not any("exaggeration" in line for line in said)


def test_the_report_shows_real_images_and_why_a_row_is_not_tested(results, write_evaluation):
    row = results["comparison"]["measures"][2]
    row["subject_note"] = "shown, not tested: hardly recognised"
    page = write_report(write_evaluation(results)).read_text(encoding="utf-8")
    assert "of the same prompts" in page
    assert "shown, not tested: hardly recognised" in page
    assert page.count("which generator is better?") == 4
    row["values"][0]["difference_to_real"] = {"value": 0.05, "low": 0.02, "high": 0.08}
    page = write_report(write_evaluation(results)).read_text(encoding="utf-8")
    assert page.count("which generator is better?") == 3


def test_an_evaluation_counts_again_on_the_prompts_that_all_have(little, run, tmp_path):
    """The peer drew few films without effusion: the run alone has enough."""
    rows = generation_rows(little, 1)
    labels = {row["key"]: row["labels"]["Pleural Effusion"] for row in little.rows("test")}
    absent = [row for row in rows if labels[row["key"]] == 0]
    fewer = [row for row in rows if row not in absent[3:]]
    for folder, some in (("generated", rows), ("peer", fewer)):
        write_generated(
            tmp_path / folder, some, pictures_for(little, some), images_per_prompt=1
        )  # fmt: skip
    results = read(run(others=(OtherPictures(name="peer", folder=tmp_path / "peer"),)))
    findings = {row["finding"]: row["status"] for row in results["judges"][0]["findings"]}
    assert findings["Pleural Effusion"] == "scored"
    comparison = results["comparison"]
    note = row_of(comparison, "auroc", "Pleural Effusion")["subject_note"]
    assert "and 3 without; 8 of each are needed" in note
    assert row_of(comparison, "auroc", "Cardiomegaly")["real"]["value"] > 0.9
    assert ("auroc", "Cardiomegaly") in differing(comparison)


def test_an_evaluation_tests_no_finding_that_its_judge_hardly_reads(
    little, run, tmp_path, monkeypatch
):
    monkeypatch.setattr("arra_med.eval.consistency.USABLE_JUDGE", 1.01)
    rows = generation_rows(little, 1)
    for folder in ("generated", "peer"):
        pictures = pictures_for(little, rows, seed=len(folder))
        write_generated(tmp_path / folder, rows, pictures, images_per_prompt=1)
    peer = OtherPictures(name="peer", folder=tmp_path / "peer")
    comparison = read(run(others=(peer,)))["comparison"]
    note = row_of(comparison, "auroc", "Cardiomegaly")["subject_note"]
    assert note.startswith("shown, not tested: on real images the judge recognises it with")
    assert ("auroc", "Cardiomegaly") not in differing(comparison)
    assert ("auroc", "cnn-32") in differing(comparison)
