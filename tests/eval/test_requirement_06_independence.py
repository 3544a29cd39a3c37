"""Requirement 6: the run's own teacher, or what saw the data, is never the only evidence."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.independence import objections
from arra_med.eval.judge_cnn import CnnJudge
from arra_med.eval.probe import ProbeOptions
from arra_med.eval.teacher_extractor import TeacherExtractor, TeacherExtractorOptions
from arra_med.settings.results import OtherPictures
from arra_med.teachers.linear import LinearOptions, LinearTeacher
from tests.eval.little import QUICK, generation_rows, pictures_for, read, write_generated

CPU = torch.device("cpu")


def in_the_space_of(teacher: LinearOptions, weights: Path) -> tuple[PluginConfig, PluginConfig]:
    """A teacher as an extractor, and a probe on it."""
    own = TeacherExtractorOptions(teacher=PluginConfig(name="linear", options=teacher))
    space = PluginConfig(name="teacher", options=own)
    options = ProbeOptions(weights=weights, extractor=space, min_positives=5)
    return space, PluginConfig(name="probe", options=options)


def test_own_teacher_alone_is_incomplete_and_an_independent_judge_completes_it(
    base, little, run, tmp_path
):
    """An ARRA run judged by a probe on its teacher, in its teacher's space; then by others too."""
    linear = LinearOptions(weights=tmp_path / "teacher", dimension=16, epochs=2)
    LinearTeacher.fit(linear, little, CPU)
    rows = generation_rows(little)
    write_generated(
        tmp_path / "generated", rows, pictures_for(little, rows),
        model={"name": "arra", "teacher": LinearTeacher.identity(linear)},
    )  # fmt: skip
    space, probe = in_the_space_of(linear, tmp_path / "probe")
    alone = read(run("alone", judges=(probe,), extractors=(space,)))
    assert alone["status"] == "incomplete"
    assert [r.split(":")[0] for r in alone["status_reasons"]] == [
        "No independent judge", "No independent extractor",
    ]  # fmt: skip
    assert "weights of the teacher the run was aligned to" in alone["status_reasons"][0]
    assert not alone["judges"][0]["independent"]
    assert alone["fidelity"][0]["kid"] is not None, "shown, and marked"

    cnn = PluginConfig(name="cnn", options=CnnOptions(weights=base / "judge", **QUICK))
    judged = read(run("judged", judges=(probe, cnn), extractors=(space,)))
    assert judged["status"] == "incomplete", "the encoder is still the teacher"
    both = read(run("both", judges=(probe, cnn), extractors=(space, cnn)))
    assert both["status"] == "complete"
    assert [judge["independent"] for judge in both["judges"]] == [False, True]
    assert [row["independent"] for row in both["fidelity"]] == [False, True]


@pytest.mark.parametrize("aligned", ["the run", "peer"])
def test_a_generator_does_not_win_in_its_own_teacher_s_space(base, little, run, tmp_path, aligned):
    """Whichever of the two was aligned, no difference in that space is tested."""
    linear = LinearOptions(weights=tmp_path / "teacher", dimension=16, epochs=2)
    LinearTeacher.fit(linear, little, CPU)
    rows = generation_rows(little)
    for name, folder in (("the run", "generated"), ("peer", "peer")):
        teacher = LinearTeacher.identity(linear) if name == aligned else None
        write_generated(
            tmp_path / folder, rows, pictures_for(little, rows, seed=len(name)),
            model={"name": name, "teacher": teacher},
        )  # fmt: skip
    space, probe = in_the_space_of(linear, tmp_path / "probe")
    cnn = PluginConfig(name="cnn", options=CnnOptions(weights=base / "judge", **QUICK))
    results = read(
        run(
            judges=(probe, cnn),
            extractors=(space, cnn),
            others=(OtherPictures(name="peer", folder=tmp_path / "peer"),),
        )
    )
    independent = [aligned == "peer", True]
    assert [judge["independent"] for judge in results["judges"]] == independent
    assert [row["independent"] for row in results["fidelity"]] == independent
    judge, extractor = results["judges"][0]["name"], results["fidelity"][0]["extractor"]
    measures = results["comparison"]["measures"]
    refused = [row for row in measures if "not tested" in str(row.get("subject_note"))]
    assert all(aligned in row["subject_note"] for row in refused)
    words = [str(row["subject"]) for row in refused]
    assert any(judge in subject for subject in words)
    assert any(extractor in subject for subject in words)
    tested = [str(row["subject"]) for row in results["comparison"]["differences"]]
    assert not any(judge in subject or extractor in subject for subject in tested)
    assert any("cnn-32" in subject for subject in tested)


def test_the_teacher_in_another_file_is_known_by_its_name():
    """At any depth of the identity; names that stand for many networks, by architecture too."""
    facts = {"dataset": "mimic-cxr", "split": "test"}
    teacher = {"name": "biomedclip", "weights_sha256": "aa"}
    extractor = {"plugin": "teacher", "teacher": teacher | {"weights_sha256": "bb"}}
    for identity in (extractor, {"plugin": "probe", "name": "probe on it", "extractor": extractor}):
        [reason] = objections(identity, called="ours", teacher=teacher, **facts)
        assert reason == "ours bears the name of the teacher the run was aligned to"
        assert objections(identity, teacher={"name": "medsam", "weights": "aa"}, **facts) == []
    vit = {"name": "timm", "weights_sha256": "aa", "architecture": "vit_small"}
    for architecture, found in (("vit_small", 1), ("resnet50", 0)):
        other = vit | {"weights_sha256": "bb", "architecture": architecture}
        identity = {"plugin": "teacher", "teacher": other}
        assert len(objections(identity, teacher=vit, **facts)) == found


def test_a_network_that_saw_the_data_set_is_not_independent(base):
    options = CnnOptions(weights=base / "judge", **QUICK)
    identity = {"plugin": "cnn", **CnnJudge.identity(options)}
    info = replace(CnnJudge(options).info, saw=("mimic-cxr",))
    free = {"called": info.name, "saw": info.saw, "teacher": None, "split": "test"}
    [reason] = objections(identity, **free, dataset="mimic-cxr")
    assert "was trained on pictures of mimic-cxr" in reason
    assert objections(identity, **free, dataset="phantom-cxr") == []


def test_every_extractor_says_what_it_was_trained_on(base, tmp_path, little):
    linear = LinearOptions(weights=tmp_path / "teacher", dimension=8, epochs=1)
    LinearTeacher.fit(linear, little, CPU)
    own = TeacherExtractorOptions(teacher=PluginConfig(name="linear", options=linear))
    assert TeacherExtractor(own).info.trained_on


def test_a_generator_trained_on_another_folder_is_marked(little, run, tmp_path, caplog):
    """Its training pictures may be the test pictures here: same source, split otherwise."""
    elsewhere = {"folders": [{"dataset": "clinic", "prepared": "ab" * 32, "ratio": 1.0}]}
    mixture = {"folders": [*elsewhere["folders"], {"prepared": little.content_hash}]}
    rows = generation_rows(little)
    trained = {"generated": elsewhere, "peer": elsewhere, "mixed": mixture, "unknown": "a lot"}
    for name, said in trained.items():
        write_generated(
            tmp_path / name, rows, pictures_for(little, rows, seed=len(name)),
            model={"name": name, "teacher": None, "trained_on": said},
        )  # fmt: skip
    others = [
        OtherPictures(name=name, folder=tmp_path / name) for name in ("peer", "mixed", "unknown")
    ]
    results = read(run(others=tuple(others)))
    assert results["status"] == "complete", "as it should be with another hospital's pictures"
    assert results["model_note"].startswith("The generator was trained on another prepared folder")
    assert "pictures of the test split may have trained it" in results["model_note"]
    assert results["model_note"] in caplog.text
    note = results["comparison"]["generators_note"]
    assert "peer was trained on another prepared folder (abababababab)" in note
    assert "mixed was" not in note + caplog.text
    assert "unknown was" not in note + caplog.text
