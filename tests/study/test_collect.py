"""Raw results of finished runs: what is taken from where."""

import json
from pathlib import Path
from typing import Any

import collect
import pytest
import records
import torch
from arms import read_arms
from plan import Plan, Run
from safetensors.torch import save_file

from arra_med.store import write_atomic


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 1, "high": value + 1}


def evaluation(fd: float) -> dict[str, Any]:
    """The parts of a results file that the study reads."""
    return {
        "cohort": {"generated": 2000},
        "fidelity": [
            {
                "fd": fd, "fd_infinity": estimate(fd - 0.5), "kid": estimate(0.2),
                "precision": 0.8, "recall": 0.4, "density": 0.9, "coverage": 0.5,
            },
            {"fd": 2 * fd},
        ],
        "judges": [
            {
                "overall": {
                    "auroc_generated": estimate(0.9), "missed_per_100": estimate(20),
                    "invented_per_100": estimate(10),
                },
                "findings": [
                    {"finding": "Edema", "status": "scored", "auroc_generated": estimate(0.8)},
                    {"finding": "Fracture", "status": "scored", "auroc_generated": estimate(0.7)},
                    {"finding": "Pneumonia", "status": "too few", "auroc_generated": None},
                ],
            }
        ],
        "similarity": {"detail_share": estimate(0.7), "diversity_generated": estimate(0.4)},
        "text": [{"normalised": estimate(0.6)}],
        "laterality": {
            "followed": estimate(0.85),
            "by_finding": [{"finding": "Fracture", "followed": estimate(0.9)}],
        },
        "view": {"agreement": estimate(0.95)},
        "memorisation": {"num_matches": 3} if fd < 5 else None,
        "protocol": {
            "versions": {"torch": "2.11"}, "prepared": "p", "judges": [{"weights_sha256": "j"}],
            "extractors": ["e"],
        },
    }  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / "study", read_arms())


DIAGNOSIS = {"weight": 1.0, "points": [{"step": step} for step in (400, 800, 1600)]}


def finish(plan: Plan, run: Run, monkeypatch: pytest.MonkeyPatch, *, aligned: bool) -> None:
    """What a finished run leaves behind."""
    monkeypatch.setattr(collect, "_codes_a_picture", lambda plan: 256)
    folder = plan.folder(run)
    lines = []
    for step in range(10, 1601, 10):
        lines.append({"step": step, "cross_entropy": 7 - step / 400, "alignment": 0.5 * aligned})
        lines[-1]["gradient_norm"] = 5.0 if step <= 400 else 0.5
        if step % 200 == 0:
            lines.append({"step": step, "validate/cross_entropy": 8 - step / 400})
            lines[-1]["validate/alignment"] = 0.75
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomic(folder / "run" / "metrics.jsonl", text.encode())
    record = {
        "training": {"batch_size": 128, "gradient_clipping": 4.0},
        "alignment": {"enabled": aligned}, "image_tokenizer": "t", "pretrained": "s",
    }  # fmt: skip
    write_atomic(folder / "run" / "run.json", json.dumps(record).encode())
    for point in run.points:
        path = plan.point_folder(run, point) / "evaluation" / "results.json"
        write_atomic(path, json.dumps(evaluation(fd=20 - point / 100)).encode())
        drawing = {"guidance": 3.0, "guidance_schedule": "constant", "temperature": 1.0}
        drawing |= {"top_k": 10, "top_p": 1.0, "limit": None}
        drawing["model"] = {"teacher": {"weights_sha256": "w"} if aligned else None}
        manifest = path.parents[1] / "generated" / "manifest.json"
        write_atomic(manifest, json.dumps({"config": drawing}).encode())
    write_atomic(plan.diagnosis(run), json.dumps(DIAGNOSIS).encode())
    export = folder / f"export-{run.points[-1]}"
    export.mkdir()
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, export / "model.safetensors")
    for step in plan.steps(run):
        mark = {"command": list(step.command), "seconds": 10.0, "device": "a card"}
        write_atomic(plan.output / "steps" / f"{step.name}.json", json.dumps(mark).encode())


@pytest.mark.parametrize("arm", ["none", "hybnext"])
def test_a_run_s_results(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    run = next(run for run in plan.runs("main", [1]) if run.arm == arm)
    finish(plan, run, monkeypatch, aligned=arm == "hybnext")
    collect.write_run(plan, run, tmp_path)
    path = tmp_path / "runs" / f"small-{arm}-seed1.json"
    found = json.loads(path.read_text())
    assert (found["size"], found["arm"], found["seed"]) == ("small", arm, 1)
    assert found["overrides"] == list(plan.arms.arms[arm])
    assert found["parameters"] == 22
    assert found["device"] == found["evaluated_on"] == "a card"
    made_with = found["made_with"]
    assert made_with["pictures"] == "p"
    assert made_with["image_tokenizer"] == "t"
    assert made_with["judge"] == "j"
    assert {"training", "drawing"} < made_with.keys()
    assert found["clipped_share"] == 40 / 160
    assert found["diagnosis"] == DIAGNOSIS
    assert found["start"] == "s"
    assert found["teacher"] == (None if arm == "none" else "w")
    assert len(found["validation"]) == 8
    assert found["validation"][0]["alignment"] == (0.75 if arm == "hybnext" else None)
    assert found["seconds"] == {"train": 10, "export": 30, "generate": 30, "evaluate": 30}
    assert [point["step"] for point in found["points"]] == [400, 800, 1600]
    first, last = found["points"][0], found["points"][-1]
    assert (first["samples"], first["tokens"]) == (400 * 128, 400 * 128 * 256)
    assert last["validation_cross_entropy"] == 4
    assert last["measures"]["fd"] == {"value": 4, "low": None, "high": None}
    assert last["measures"]["fd_unlabelled"]["value"] == 8
    assert last["measures"]["auroc"] == estimate(0.9)
    assert last["measures"]["copies"]["value"] == 3
    assert "copies" not in first["measures"]
    assert last["measures"]["side_agreement"] == estimate(0.85)
    assert found["findings"] == {
        "Edema": {"auroc": 0.8, "side": None}, "Fracture": {"auroc": 0.7, "side": 0.9}
    }  # fmt: skip
    losses = found["losses"]
    assert len(losses) == 160
    assert losses[0]["cross_entropy"] == pytest.approx(7 - 10 / 400)
    assert {line["alignment"] for line in losses} == ({0.5} if arm == "hybnext" else {None})
    assert records.load(tmp_path).of(("small", arm)).keys() == {1}


def test_candidates_results(plan: Plan, tmp_path: Path) -> None:
    runs = plan.candidates()
    for run in runs:
        for guidance in plan.guidances(run):
            path = plan.point_folder(run, 1600, guidance) / "evaluation" / "results.json"
            write_atomic(path, json.dumps(evaluation(fd=10 + guidance)).encode())
        record = json.dumps({"image_tokenizer": "t"}).encode()
        write_atomic(plan.folder(run) / "run" / "run.json", record)
    collect.write_choice(plan, runs, tmp_path)
    found = json.loads((tmp_path / "choice.json").read_text())
    assert (found["size"], found["split"]) == ("small", "validate")
    assert found["made_with"].keys() == {"image_tokenizer", "extractors"}
    choose = plan.arms.choose
    rows = [(row["arm"], row["overrides"], row["guidance"]) for row in found["candidates"]]
    assert rows == [
        (arm, [given], guidance)
        for arm in choose.arms for given in choose.training for guidance in choose.guidance
    ]  # fmt: skip
    assert found["candidates"][1]["measures"]["fd"]["value"] == 10 + choose.guidance[1]
