"""The whole stage on folders written here: 160 little pictures, two findings one can see."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.evaluate import _check_goals, evaluate
from arra_med.eval.judge_cnn import CnnJudge
from arra_med.eval.judging import distances
from arra_med.eval.report import write_report
from arra_med.generation.folder import image_name
from arra_med.images import decode_png, encode_png
from arra_med.schema import Sample
from arra_med.settings import Goal, OtherPictures, Paths, Settings
from arra_med.store import verify
from tests.eval.little import (
    LABELS,
    QUICK,
    SIZE,
    generation_rows,
    pictures_for,
    read,
    write_generated,
    write_prepared,
)
from tests.prepared import save_prepared

CPU = torch.device("cpu")


def test_a_faithful_generator_end_to_end(generated, run, little):
    folder = run()
    verify(folder, "evaluation")
    results = read(folder)
    assert (results["kind"], results["schema_version"]) == ("evaluation", 1)
    assert results["status"] == "complete"
    assert results["status_reasons"] == []

    cohort = results["cohort"]
    assert (cohort["prompts"], cohort["generated"], cohort["images_per_prompt"]) == (48, 96, 2)
    assert (cohort["real"], cohort["patients"]) == (48, 24)
    assert sum(cohort["views"].values()) == 48
    counts = [step["count"] for step in cohort["flow"]]
    assert counts == [160, 112, 48, 0, 48, 96, 0, 96]

    row = results["fidelity"][0]
    assert (row["n_real"], row["n_generated"], row["dimension"]) == (48, 96, 8)
    assert row["fd"] >= 0
    assert row["fd_reference"] > 0
    assert row["kid"]["low"] <= row["kid"]["value"] <= row["kid"]["high"]
    assert row["recall"] > 0.5
    assert [other["k"] for other in row["prdc_other_k"]] == [3, 10]
    assert "train split" in row["reference"]
    assert row["independent"]

    similarity = results["similarity"]
    assert similarity["paired"]["value"] > similarity["paired_floor"]["value"]
    assert similarity["paired"]["n"] == 96
    assert similarity["diversity_generated"]["value"] == pytest.approx(
        similarity["diversity_real"]["value"], abs=0.1
    )
    assert "2 scales" in similarity["method"]

    findings = {row["finding"]: row for row in results["judges"][0]["findings"]}
    assert list(findings) == list(LABELS)
    for row in findings.values():
        total = row["positives"] + row["negatives"] + row["uncertain"] + row["unknown"]
        assert total == 48
    assert findings["Pleural Effusion"]["uncertain"] > 0
    assert findings["Edema"]["status"] == "not judged"
    assert "0 training pictures with it" in findings["Edema"]["status_note"]
    for name in ("Cardiomegaly", "Pleural Effusion"):
        row = findings[name]
        assert row["status"] == "scored"
        assert row["auroc_real"]["value"] > 0.95
        assert row["auroc_generated"]["value"] > 0.95
        assert 0 < row["threshold"] < 1
        assert row["missed_per_100"] == pytest.approx(100 * (1 - row["sensitivity"]["value"]))
    assert results["judges"][0]["overall"]["auroc_generated"]["value"] > 0.95
    assert results["protocol"]["prepared"] == little.content_hash

    scores = pd.read_parquet(folder / "scores.parquet")
    assert len(scores) == 96
    assert set(scores.columns) >= {"key", "index", "judge_generated", "judge_real", "labels"}


def test_a_judge_that_shares_no_finding_leaves_its_columns_out(
    generated, base, run, little, tmp_path
):
    """Such as CheXpert's findings asked of a fundus set: all else is measured all the same."""
    folder = tmp_path / "fundus"
    pictures = little.images(little.keys)
    items = []
    for row in little.rows():
        fields = {name: row[name] for name in Sample.__dataclass_fields__ if name in row}
        sample = Sample(**fields | {"labels": {"Drusen": row["labels"]["Pleural Effusion"]}})
        items.append((sample, decode_png(pictures[row["key"]])))
    save_prepared(folder, items, part_size=160)
    options = CnnOptions(weights=base / "judge", fit_on=base / "prepared", **QUICK)
    judge = PluginConfig(name="cnn", options=options)
    out = run(prepared_folder=folder, judges=(judge,), extractors=(judge,))
    results = read(out)
    (row,) = results["judges"][0]["findings"]
    assert (row["finding"], row["status"]) == ("Drusen", "not judged")
    assert results["fidelity"][0]["kid"]["value"] is not None
    scores = pd.read_parquet(out / "scores.parquet")
    assert list(scores.columns) == ["key", "index", "patient_id", "labels"]
    assert write_report(out).is_file()


def test_panels_show_the_pictures_they_name(generated, run, little):
    folder = run()
    rows = read(folder)["panels"]
    rules = ["random"] * 4 + ["worst"] * 2 + ["best"] * 2 + ["closest"] * 4
    assert [row["rule"] for row in rows] == rules
    assert len({(row["key"], row["index"]) for row in rows[:8]}) == 8
    near = little.images([row["train_key"] for row in rows[8:]])
    for row in rows[8:]:
        assert little.row(row["train_key"])["split"] == "train"
        assert (folder / row["real"]).read_bytes() == near[row["train_key"]]
    rows = rows[:8]
    real = little.images([row["key"] for row in rows])
    for row in rows:
        made = generated / image_name(row["key"], row["index"])
        assert (folder / row["generated"]).read_bytes() == made.read_bytes()
        assert (folder / row["real"]).read_bytes() == real[row["key"]]
        sample = little.row(row["key"])
        assert row["asked"] == [n for n, value in sample["labels"].items() if value == 1]
        assert row["prompt"] == sample["prompt"]
        assert set(row["judge_generated"]) == {"Cardiomegaly", "Pleural Effusion"}


def test_a_finished_evaluation_is_kept_and_another_is_refused(generated, run):
    folder = run()
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert run() == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(RequestError, match=r"differs in bootstrap"):
        run(bootstrap=50)


def test_an_interrupted_evaluation_does_not_look_finished(generated, run, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("arra_med.eval.measures.similarity", fail)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not (tmp_path / "evaluation" / "results.json").exists()
    assert not (tmp_path / "evaluation" / "manifest.json").exists()
    assert read(run())["status"] == "complete"


def test_a_generator_that_ignores_prompts_and_one_that_collapsed(little, run, tmp_path):
    rows = generation_rows(little)
    made = list(pictures_for(little, rows).values())
    shuffled = [made[(i + 2) % len(made)] for i in range(len(made))]  # the next prompt's picture
    write_generated(
        tmp_path / "generated", rows, dict(zip((r["file"] for r in rows), shuffled, strict=True))
    )
    ignoring = read(run("ignoring"))
    findings = {row["finding"]: row for row in ignoring["judges"][0]["findings"]}
    assert findings["Pleural Effusion"]["auroc_generated"]["value"] < 0.1  # alternating labels
    assert findings["Pleural Effusion"]["auroc_difference"]["high"] < 0
    assert findings["Pleural Effusion"]["missed_per_100"] > 90
    shutil.rmtree(tmp_path / "generated")
    write_generated(tmp_path / "generated", rows, dict.fromkeys((r["file"] for r in rows), made[0]))
    collapsed = read(run("collapsed"))
    assert collapsed["similarity"]["diversity_generated"]["value"] == pytest.approx(1, abs=1e-4)
    assert collapsed["fidelity"][0]["recall"] == 0
    assert collapsed["judges"][0]["overall"]["auroc_generated"]["value"] == pytest.approx(0.5)


def test_too_few_pictures_are_said_so(little, run, tmp_path):
    rows = generation_rows(little, 1)[:12]
    write_generated(tmp_path / "generated", rows, pictures_for(little, rows), images_per_prompt=1)
    results = read(run())
    assert results["status"] == "incomplete"
    assert results["status_reasons"] == ["No finding had enough pictures to be scored."]
    assert results["fidelity"][0]["fd"] is None
    assert "12 pictures are fewer than twice the 8" in results["fidelity"][0]["fd_note"]
    assert results["judges"][0]["findings"][0]["status"] == "too few"
    assert results["judges"][0]["findings"][0]["auroc_generated"] is None
    assert "8 of each are needed" in results["judges"][0]["findings"][0]["status_note"]
    assert results["judges"][0]["overall"]["auroc_real"] is None
    assert [s["count"] for s in results["cohort"]["flow"]] == [160, 112, 48, 36, 12, 12, 0, 12]


def bad_generated(case, little, folder):
    rows = generation_rows(little)
    pictures = pictures_for(little, rows)
    first = rows[0]["file"]
    if case == "foreign key":
        rows[0] |= {"key": "p999/s999"}
    elif case == "another prompt":
        rows[0] |= {"prompt": "something else"}
    elif case == "twice":
        rows[1] |= {"index": 0}
    elif case == "one too few":
        rows.pop()
    elif case == "two splits":
        sample = little.rows("train")[0]
        rows += [rows[0] | {"key": sample["key"], "prompt": sample["prompt"]}]
    elif case == "wrong size":
        pictures[first] = np.zeros((16, 16, 1), np.uint8)
    elif case == "colour":
        pictures[first] = np.zeros((SIZE, SIZE, 3), np.uint8)
    elif case == "missing png":
        pictures[first] = None
    elif case == "unreadable":
        pictures[first] = encode_png(pictures[first])[:90]
    elif case == "scale":
        pictures = {name: (picture > 100).astype(np.uint8) for name, picture in pictures.items()}
    return write_generated(folder, rows, pictures)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("foreign key", "1 keys are not in .*p999/s999"),
        ("another prompt", "the prompt of 1 pictures is not the one"),
        ("twice", "expected pictures 0 to 1 of every prompt; 1 prompts have others"),
        ("one too few", "expected pictures 0 to 1"),
        ("two splits", "mixes prompts of the splits \\['test', 'train'\\]"),
        ("wrong size", "\\(16, 16, 1\\), those of .* \\(32, 32, 1\\)"),
        ("colour", "\\(32, 32, 3\\), those of .* \\(32, 32, 1\\)"),
        ("missing png", "1 of 96 pictures are missing"),
        ("unreadable", "1 of 96 pictures are unreadable \\(at most 1% may be\\)"),
        ("scale", "cast to uint8"),
    ],
)
def test_bad_generated_folders_are_refused(case, message, little, run, tmp_path):
    bad_generated(case, little, tmp_path / "generated")
    with pytest.raises(ValueError, match=message):  # RequestError is one
        run()
    assert not (tmp_path / "evaluation" / "manifest.json").exists()


def test_a_few_unreadable_pictures_are_left_out_and_counted(
    little, run, tmp_path, monkeypatch, generated
):
    monkeypatch.setattr("arra_med.eval.cohort.MOST_UNREADABLE", 0.02)
    name = image_name(little.rows("test")[0]["key"], 1)
    (generated / name).write_bytes(b"not a picture")
    cohort = read(run())["cohort"]
    assert cohort["generated"] == 95
    assert cohort["unreadable"] == [
        {"key": "p056/s112", "index": 1, "reason": "UnidentifiedImageError"}
    ]
    assert [step["count"] for step in cohort["flow"]][-3:] == [96, 1, 95]


def test_a_judge_of_other_pictures_is_refused(generated, run, tmp_path):
    other = write_prepared(tmp_path / "other", num=150)
    CnnJudge.fit(CnnOptions(weights=tmp_path / "judge", **QUICK), other, CPU)
    with pytest.raises(RequestError, match="fitted on other pictures"):
        run(weights=tmp_path / "judge")


def test_weights_inside_the_evaluation_folder_are_refused(generated, run, tmp_path):
    with pytest.raises(RequestError, match="name a folder outside"):
        run(weights=tmp_path / "evaluation" / "judge")


def test_so_few_resamples_that_they_say_nothing_are_refused(run):
    with pytest.raises(ValueError, match="bootstrap must be at least 20, got 1"):
        run(bootstrap=1)


def test_a_missing_section_is_refused(tmp_path):
    with pytest.raises(RequestError, match="needs a 'evaluation:' section"):
        evaluate(Settings(paths=Paths(output=tmp_path)), device=CPU)


def test_prompts_without_labels_are_read_by_the_labeller(little, base, run, tmp_path):
    """Thresholds too: neither the validate nor the test split has labels of its own."""
    words = {1: "pleural effusion", 0: "no pleural effusion", -1: "possible pleural effusion"}
    items = []
    for row in little.rows():
        labels = dict(row["labels"])
        heart = "cardiomegaly" if labels["Cardiomegaly"] else "no cardiomegaly"
        said = f"PA view chest x-ray image, {heart}. There is {words[labels['Pleural Effusion']]}."
        bare = labels if row["split"] == "train" else dict.fromkeys(labels)
        names = ("key", "patient_id", "study_id", "split", "view", "modality", "source")
        sample = Sample(
            **{name: row[name] for name in names}, prompt=said, prompt_source="x", labels=bare
        )
        items.append((sample, decode_png(little.images([row["key"]])[row["key"]])))
    bare = save_prepared(tmp_path / "bare", items, part_size=160)
    rows = generation_rows(bare, 1)
    write_generated(tmp_path / "generated", rows, pictures_for(little, rows), images_per_prompt=1)
    results = read(run(weights=tmp_path / "judge", prepared_folder=tmp_path / "bare"))
    assert results["cohort"]["labels_from"] == {"dataset": 0, "prompt": 48}
    assert results["labels"]["checked"] == 0
    findings = {row["finding"]: row for row in results["judges"][0]["findings"]}
    effusion = findings["Pleural Effusion"]
    assert effusion["status"] == "scored"
    assert 0 < effusion["threshold"] < 1
    assert effusion["auroc_generated"]["value"] > 0.95


def test_a_goal_for_a_finding_that_is_not_there_is_refused(little):
    goal = Goal(measure="auroc", finding="edema", at_least=0.5)
    options = SimpleNamespace(goals=(goal,))
    with pytest.raises(RequestError, match=r"no finding 'edema', did you mean 'Edema'\? \(there"):
        _check_goals(options, little)


def test_a_normal_film_excludes_what_its_prompt_leaves_unsaid():
    seen = {"Edema": np.array([0.9, 0.9]), "Support Devices": np.array([0.9, 0.9])}
    unsaid = {"Edema": None, "Support Devices": None, "No Finding": 1}
    cohort = SimpleNamespace(
        sample_of=[{"labels": unsaid}, {"labels": unsaid | {"No Finding": None}}],
        pictures=[b"", b""],
    )
    far = distances(SimpleNamespace(generated=seen), cohort)
    assert far[0] == 0.9
    assert np.isnan(far[1])


def test_a_copier_among_others_is_told_of_and_not_tested(little, run, tmp_path, caplog):
    rows = generation_rows(little)
    pictures = pictures_for(little, rows)
    write_generated(tmp_path / "generated", rows, pictures)
    train = little.images([sample["key"] for sample in little.rows("train")])
    copied = {row["file"]: decode_png(png) for row, png in zip(rows, train.values(), strict=False)}
    write_generated(tmp_path / "peer", rows, pictures | copied)
    results = read(run(others=(OtherPictures(name="copycat", folder=tmp_path / "peer"),)))
    assert results["comparison"]["differences"] == []
    assert "copycat: " in results["comparison"]["generators_note"]
    assert "so it is shown and not tested" in caplog.text
