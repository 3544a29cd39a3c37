"""The whole stage, and what a generator says of its teacher: who counts as independent of it."""

from dataclasses import replace

import pytest
import torch

from arra_med.errors import RequestError
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.judge_cnn import CnnJudge
from arra_med.eval.report import write_report
from arra_med.settings import OtherPictures
from tests.eval.little import (
    QUICK,
    generation_rows,
    pictures_for,
    read,
    write_generated,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("how", ["weights", "name"])
def test_a_judge_that_was_the_teacher_makes_it_incomplete(base, little, run, tmp_path, how):
    identity = CnnJudge.identity(CnnOptions(weights=base / "judge", **QUICK))
    teacher = {"weights": {"name": "linear", "weights_sha256": identity["weights_sha256"]},
               "name": {"name": "cnn", "weights_sha256": "0" * 64}}[how]  # fmt: skip
    rows = generation_rows(little)
    write_generated(
        tmp_path / "generated", rows, pictures_for(little, rows), model={"teacher": teacher}
    )
    results = read(run())
    assert results["status"] == "incomplete"
    assert not results["judges"][0]["independent"]
    assert not results["fidelity"][0]["independent"]
    assert any("judge" in r and "aligned to" in r for r in results["status_reasons"])
    assert (
        results["judges"][0]["findings"][0]["auroc_generated"]["value"] > 0.9
    )  # shown, but marked


def test_another_teacher_leaves_the_judge_independent(little, run, tmp_path):
    rows = generation_rows(little)
    teacher = {
        "name": "linear", "weights_sha256": "0" * 64, "fitted_on": little.content_hash
    }  # fmt: skip
    write_generated(
        tmp_path / "generated", rows, pictures_for(little, rows), model={"teacher": teacher}
    )
    assert read(run())["status"] == "complete"


def test_a_generator_that_hides_its_teacher_is_incomplete(little, run, tmp_path):
    rows = generation_rows(little)
    write_generated(
        tmp_path / "generated", rows, pictures_for(little, rows), model={"name": "peer"}
    )
    folder = run()
    results = read(folder)
    assert "the run does not say whether it was aligned" in results["status_reasons"][0]
    assert not any(row["independent"] for row in results["judges"] + results["fidelity"])
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Whether training was aligned to a teacher is not known." in page
    results = read(run("declared", no_teacher=True))
    assert (results["status"], results["model"]["teacher"]) == ("complete", None)


def test_a_teacher_is_not_denied(little, run, tmp_path):
    rows, teacher = generation_rows(little), {"name": "linear"}
    write_generated(
        tmp_path / "generated", rows, pictures_for(little, rows), model={"teacher": teacher}
    )
    with pytest.raises(RequestError, match=r"names a teacher .* remove no_teacher"):
        run(no_teacher=True)


def test_another_generator_that_hides_its_teacher_is_shown_and_not_tested(little, run, tmp_path):
    rows = generation_rows(little)
    for folder, model in (("generated", {"teacher": None}), ("peer", {"name": "peer"})):
        write_generated(tmp_path / folder, rows, pictures_for(little, rows), model=model)
    peer = OtherPictures(name="peer", folder=tmp_path / "peer")
    shown = read(run(others=(peer,)))["comparison"]
    tested = {row["measure"] for row in shown["differences"]}
    assert tested == {"paired"}  # pixels have no teacher
    [note] = {row["subject_note"] for row in shown["measures"] if row["measure"] == "kid"}
    assert "peer does not say whether it was aligned" in note
    peer = replace(peer, no_teacher=True)
    declared = read(run("declared", others=(peer,)))["comparison"]
    assert {"auroc", "kid"} < {row["measure"] for row in declared["differences"]}
