"""Raw results of finished runs, as small JSON files: what ``document.py`` reads."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plan import COLLECTIONS, TEACHERS, UNLABELLED, Plan, Run
from safetensors import safe_open
from steps import ended, mark_of

from arra_med.schema import SPLITS
from arra_med.store import PreparedFolder, canonical_json, fingerprint, write_atomic
from arra_med.tokenizers.base import load_tokenizer

Json = dict[str, Any]

_VALUES = ("precision", "recall", "density", "coverage", "fd")
_DRAWING = ("guidance", "guidance_schedule", "temperature", "top_k", "top_p")
_LOSSES_KEPT = 160


def write_run(plan: Plan, run: Run, results: Path) -> None:
    """``runs/<name>.json`` of a finished run."""
    folder = plan.folder(run)
    lines = _json_lines(folder / "run" / "metrics.jsonl")
    record = _read(folder / "run" / "run.json")
    batch, aligned = int(record["training"]["batch_size"]), record["alignment"]["enabled"]
    codes = _codes_a_picture(plan)
    validated = {line["step"]: line for line in lines if "validate/cross_entropy" in line}
    trained = [line for line in lines if "cross_entropy" in line]
    thin = max(1, len(trained) // _LOSSES_KEPT)
    points = []
    for point in run.points:
        evaluation = _read(plan.point_folder(run, point) / "evaluation" / "results.json")
        points.append(
            {
                "step": point,
                "samples": point * batch,
                "tokens": point * batch * codes,
                "split": run.split,
                "pictures": evaluation["cohort"]["generated"],
                "validation_cross_entropy": validated[point]["validate/cross_entropy"],
                "measures": measures(evaluation),
            }
        )
    drawn = _read(plan.point_folder(run, run.points[-1]) / "generated" / "manifest.json")["config"]
    limit = record["training"]["gradient_clipping"]
    clipped = [line["gradient_norm"] > limit for line in trained]
    _write(
        results / "runs" / f"{run.name}.json",
        {
            "arm": run.arm,
            "size": run.size,
            "seed": run.seed,
            "overrides": [*plan.arms.sizes[run.size], *plan.arms.arms[run.arm]],
            "parameters": _parameters(folder / f"export-{run.points[-1]}"),
            "device": mark_of(plan.output, f"{run.name}-train")["device"],
            "evaluated_on": mark_of(plan.output, _evaluate(plan, run))["device"],
            "made_with": {  # by these runs compare, or do not
                "pictures": evaluation["protocol"]["prepared"],
                "image_tokenizer": record["image_tokenizer"],
                "judge": evaluation["protocol"]["judges"][0]["weights_sha256"],
                "extractors": fingerprint(evaluation["protocol"]["extractors"]),
                "training": fingerprint(
                    {k: v for k, v in record["training"].items() if k != "max_steps"}
                ),
                "drawing": fingerprint({name: drawn[name] for name in _DRAWING}),
            },
            "start": record["pretrained"],
            "teacher": drawn["model"]["teacher"]["weights_sha256"] if aligned else None,
            "versions": evaluation["protocol"]["versions"],
            "seconds": _seconds(plan, run),
            "points": points,
            "findings": findings(evaluation),
            "clipped_share": sum(clipped) / len(clipped),
            "diagnosis": _read(plan.diagnosis(run)),
            "validation": [
                {
                    "step": step,
                    "cross_entropy": line["validate/cross_entropy"],
                    "alignment": line["validate/alignment"] if aligned else None,
                }
                for step, line in validated.items()
            ],
            "losses": [
                {
                    "step": line["step"],
                    "tokens": line["step"] * batch * codes,
                    "cross_entropy": line["cross_entropy"],
                    "alignment": line["alignment"] if aligned else None,
                }
                for line in trained[::thin]
            ],
        },
    )


def write_choice(plan: Plan, runs: Sequence[Run], results: Path) -> None:
    """``choice.json``: FD on validation of every candidate."""
    rows = []
    for run in runs:
        for guidance in plan.guidances(run):
            folder = plan.point_folder(run, run.points[-1], guidance)
            evaluation = _read(folder / "evaluation" / "results.json")
            row = {"arm": run.arm.partition("-")[0], "overrides": list(run.candidate)}
            rows.append({**row, "guidance": guidance, "measures": measures(evaluation)})
    about = {
        "size": plan.arms.choose.size,
        "seed": plan.arms.choose.seed,
        "split": "validate",
        "made_with": {
            "image_tokenizer": _read(plan.folder(run) / "run" / "run.json")["image_tokenizer"],
            "extractors": fingerprint(evaluation["protocol"]["extractors"]),
        },
    }
    _write(results / "choice.json", {**about, "candidates": rows})


def write_setup(plan: Plan, results: Path) -> None:
    """``setup.json``: what all runs share; teachers that are not there are kept from before."""
    path = results / "setup.json"
    before = _read(path) if path.is_file() else {}
    reference = _read(plan.output / "reference" / "results.json")
    folders = {"study": plan.prepared}
    folders |= {name: Path(f"{plan.prepared}-{name}") for name in COLLECTIONS}
    collections = {name: _collection(folder) for name, folder in folders.items() if folder.is_dir()}
    fidelity = reference["fidelity"][0]
    real = {
        "fd": _value(fidelity["fd_reference"]),
        "fd_unlabelled": _value(reference["fidelity"][1]["fd_reference"]),
        "kid": _estimate(fidelity["kid_reference"]),
        **{name: _value(fidelity["prdc_reference"][name]) for name in _VALUES if name != "fd"},
        "auroc": _estimate(reference["judges"][0]["overall"]["auroc_real"]),
        "missed_per_100": _estimate(reference["judges"][0]["overall"]["real_missed_per_100"]),
        "invented_per_100": _estimate(reference["judges"][0]["overall"]["real_invented_per_100"]),
        "text_alignment": _value(1.0),
        "fine_detail": _value(1.0),
    }
    quality = {name: Path(f"{plan.prepared}-teacher-{name}") / "quality.json" for name in TEACHERS}
    teachers = {name: _read(file) for name, file in quality.items() if file.is_file()}
    second = Path(f"{plan.prepared}-judge-{UNLABELLED}") / "quality.json"
    made = [step for step in plan.setup() if ended(plan.output, step)]
    setup = {
        "collections": {**before.get("collections", {}), **collections},
        "image_tokenizer": _read(plan.output / "tokenizer" / "metrics.json"),
        "teachers": {**before.get("teachers", {}), **teachers},
        "judge": {
            row["finding"]: _estimate(row["auroc_real"])
            for row in reference["judges"][0]["findings"]
            if row["status"] == "scored"
        },
        "second_extractor": _read(second),
        "reference": {"real": real, "reconstructions": measures(reference)},
    }
    seconds = {step.name: mark_of(plan.output, step.name)["seconds"] for step in made}
    _write(path, {**setup, "seconds": {**before.get("seconds", {}), **seconds}})


def measures(evaluation: Mapping[str, Any]) -> Json:
    """What a ``results.json`` says of the pictures, by the names of the study's tables."""
    fidelity, overall = evaluation["fidelity"][0], evaluation["judges"][0]["overall"]
    found = {name: _value(fidelity[name]) for name in _VALUES}
    found["fd_unlabelled"] = _value(evaluation["fidelity"][1]["fd"])
    found |= {
        "fd_infinity": _estimate(fidelity["fd_infinity"]),
        "kid": _estimate(fidelity["kid"]),
        "auroc": _estimate(overall["auroc_generated"]),
        "missed_per_100": _estimate(overall["missed_per_100"]),
        "invented_per_100": _estimate(overall["invented_per_100"]),
        "fine_detail": _estimate(evaluation["similarity"]["detail_share"]),
        "diversity": _estimate(evaluation["similarity"]["diversity_generated"]),
    }
    if evaluation["text"]:
        found["text_alignment"] = _estimate(evaluation["text"][0]["normalised"])
    if evaluation["laterality"]:
        found["side_agreement"] = _estimate(evaluation["laterality"]["followed"])
    if evaluation["view"]:
        found["view_agreement"] = _estimate(evaluation["view"]["agreement"])
    copies = evaluation["memorisation"]
    if copies:
        found["copies"] = _value(copies["num_matches"])
    return {name: value for name, value in found.items() if value["value"] is not None}


def findings(evaluation: Mapping[str, Any]) -> Json:
    """By finding, the judge's AUROC and how often the asked side was drawn, where it was asked."""
    found: Json = {
        row["finding"]: {"auroc": row["auroc_generated"]["value"], "side": None}
        for row in evaluation["judges"][0]["findings"]
        if row["status"] == "scored" and row["auroc_generated"]
    }
    for row in (evaluation["laterality"] or {}).get("by_finding", []):
        if row["finding"] in found and row["followed"]:
            found[row["finding"]]["side"] = row["followed"]["value"]
    return found


def _evaluate(plan: Plan, run: Run) -> str:
    """The step that evaluates a run's last point."""
    return [step.name for step in plan.steps(run) if step.name.endswith("-evaluate")][-1]


def _seconds(plan: Plan, run: Run) -> dict[str, float]:
    """Of training, and of each other verb over all points."""
    total: dict[str, float] = {}
    for step in plan.steps(run):
        verb = step.name.rpartition("-")[2] if "-export-" not in step.name else "export"
        seconds = mark_of(plan.output, step.name)["seconds"]
        total[verb] = round(total.get(verb, 0.0) + seconds, 1)
    return {verb: total[verb] for verb in ("train", "export", "generate", "evaluate")}


def _parameters(export: Path) -> int:
    """Of an exported model, counted in its weights' headers."""
    total = 0
    for path in sorted(export.glob("*.safetensors")):
        with safe_open(path, "np") as weights:
            names = weights.keys()
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    return total


def _codes_a_picture(plan: Plan) -> int:
    grid: tuple[int, int] = load_tokenizer(plan.output / "tokenizer").grid
    return math.prod(grid)


def _collection(folder: Path) -> Json:
    prepared = PreparedFolder(folder)
    dataset = prepared.manifest["config"]["dataset"]
    splits = [row["split"] for row in prepared.rows()]
    counts = {split: splits.count(split) for split in SPLITS}
    return counts | {"seed": dataset["seed"]}


def _value(value: float | None) -> Json:
    return {"value": value, "low": None, "high": None}


def _estimate(section: Mapping[str, Any] | None) -> Json:
    if section is None:
        return _value(None)
    return {name: section.get(name) for name in ("value", "low", "high")}


def _read(path: Path) -> Json:
    tree: Json = json.loads(path.read_text(encoding="utf-8"))
    return tree


def _json_lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, tree: Json) -> None:
    write_atomic(path, canonical_json(tree).encode())
