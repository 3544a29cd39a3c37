"""What ``evaluate`` writes for a fair generator of phantoms: numbers that go together."""

import numpy as np

from tests.eval.example_judges import PHANTOMS, Results, bell, estimate, judges

__all__ = [
    "Results",
    "comparison",
    "estimate",
    "fidelity",
    "goals",
    "judges",
    "laterality",
    "memorisation",
    "panel",
    "preflight",
    "text",
    "view",
]


def group(name: str, real: int, made: int, kid: float | None) -> Results:
    note = f"not given: {real} real and {made} generated pictures; 50 of each are needed"
    reference = {"value": 0.0009, "low": -0.002, "high": 0.003, "draws": 10}
    return {
        "group": name,
        "n_real": real,
        "n_generated": made,
        "kid": None if kid is None else estimate(kid, 0.004),
        "kid_reference": None if kid is None else reference,
        "note": note if kid is None else "",
    }


def fidelity(name: str, *, independent: bool, dimension: int) -> Results:
    note = "" if independent else f"{name!r} is the teacher the run was aligned to"
    shares = {"precision": 0.71, "recall": 0.44, "density": 0.83, "coverage": 0.58}
    return {
        "extractor": name,
        "dimension": dimension,
        "trained_on": PHANTOMS,
        "saw": [],
        "preprocessing": "64 px, grey, values in [0, 1]",
        "independent": independent,
        "not_independent_because": [note] if note else [],
        "reference": "300 real pictures of the test split against 600 of the train split",
        "n_real": 300,
        "n_generated": 600,
        "fd": 21.4,
        "fd_note": "",
        "fd_infinity": {"value": 18.9, "low": 16.2, "high": 21.7},
        "fd_reference": 6.1,
        "fd_reference_note": "",
        "kid": {"value": 0.0213, "low": 0.0181, "high": 0.0248},
        "kid_note": "",
        "kid_reference": {"value": 0.0002, "low": -0.0011, "high": 0.0016, "draws": 10},
        "kid_reference_note": "",
        "prdc_k": 5,
        **shares,
        "prdc_other_k": [
            {"k": 3, "precision": 0.63, "recall": 0.35, "density": 0.81, "coverage": 0.44},
            {"k": 10, "precision": 0.82, "recall": 0.59, "density": 0.85, "coverage": 0.77},
        ],
        "reference_size": 600,
        "prdc_reference": {"precision": 0.88, "recall": 0.87, "density": 0.99, "coverage": 0.95},
        "prdc_reference_note": "",
        "groups": [
            group("view AP", 96, 192, 0.019),
            group("view PA", 141, 282, 0.022),
            group("Pleural Effusion", 84, 168, 0.026),
            group("Fracture", 1, 2, None),
        ],
        "diversity_generated": estimate(0.83, 0.03, 600) | {"pairs": 500},
        "diversity_real": estimate(0.94, 0.03, 300) | {"pairs": 500},
        "paired": estimate(0.77, 0.02, 600),
        "paired_floor": estimate(0.92, 0.02, 600),
    }


def view() -> Results:
    def of_view(name: str, shown: dict[str, int], made: float, real: float) -> Results:
        count = sum(shown.values())
        return {
            "view": name,
            "n": count,
            "shown_as": shown,
            "agreement": estimate(made, 0.05, count),
            "agreement_real": estimate(real, 0.04, count),
        }

    return {
        "classifier": "cnn-view-64",
        "independent": True,
        "not_independent_because": [],
        "n": 600,
        "agreement": estimate(0.882, 0.026, 600),
        "agreement_real": estimate(0.957, 0.017, 600),
        "by_view": [
            of_view("AP", {"AP": 158, "PA": 33, "lateral": 1}, 0.823, 0.93),
            of_view("PA", {"AP": 32, "PA": 248, "lateral": 2}, 0.879, 0.96),
            of_view("lateral", {"AP": 1, "PA": 2, "lateral": 123}, 0.976, 0.99),
        ],
    }


def laterality() -> Results:
    def of_finding(name: str, count: int, made: float, real: float) -> Results:
        return {
            "finding": name,
            "n": count,
            "followed": estimate(made, 0.1, count),
            "followed_real": estimate(real, 0.07, count),
        }

    return {
        "judge": "cnn-judge-64",
        "independent": True,
        "n": 142,
        "followed": estimate(0.73, 0.07, 142),
        "followed_real": estimate(0.91, 0.05, 142),
        "by_finding": [
            of_finding("Pleural Effusion", 98, 0.78, 0.93),
            of_finding("Consolidation", 44, 0.62, 0.87),
        ],
        "swapped": {
            "n": 142,
            "followed": estimate(0.70, 0.07, 142),
            "flipped": estimate(0.54, 0.08, 142),
        },
    }


def text(name: str, *, independent: bool, normalised: float) -> Results:
    floor, ceiling = 0.21, 0.43
    why = [] if independent else [f"{name!r} is the teacher the run was aligned to"]
    return {
        "encoder": name,
        "trained_on": "figure captions of scientific articles" if independent else PHANTOMS,
        "saw": [],
        "independent": independent,
        "not_independent_because": why,
        "preprocessing": "224 px, RGB",
        "n": 600,
        "context": 77,
        "truncated": 3,
        "score": estimate(floor + normalised * (ceiling - floor), 0.01, 600),
        "floor": estimate(floor, 0.006, 600),
        "ceiling": estimate(ceiling, 0.012, 600),
        "normalised": estimate(normalised, 0.05, 600),
        "retrieval": estimate(0.38, 0.04, 600),
        "retrieval_real": estimate(0.56, 0.05, 600),
        "retrieval_of": 10,
    }


def memorisation() -> Results:
    """Two pictures near the threshold: no more than the stated false-match rate lets through."""
    names = ("exact", "two levels", "jpeg", "crop", "flip")
    controls = [
        {
            "kind": name,
            "n": 200,
            "found": found,
            "traced": found - (name == "crop"),
            "rate": {"value": found / 200, "low": max(0.0, found / 200 - 0.04),
                     "high": min(1.0, found / 200 + 0.02)},
            "must_find": name in ("exact", "two levels", "jpeg"),
        }
        for name, found in zip(names, (200, 200, 199, 31, 12), strict=True)
    ]  # fmt: skip

    def space(name: str, metric: str, dimension: int, threshold: float) -> Results:
        return {
            "name": name,
            "metric": metric,
            "dimension": dimension,
            "threshold": threshold,
            "resolved": True,
            "false_matches": {"value": 0.006, "low": 0.002, "high": 0.014},
            "same_patient_matches": {"value": 0.08, "low": 0.04, "high": 0.14},
            "histogram": {
                "edges": [round(0.5 * threshold * edge, 4) for edge in range(11)],
                "generated": bell(0.62, 600),
                "held_out": bell(0.58, 400),
                "same_patient": bell(0.42, 130),
                "planted": bell(0.02, 600, width=0.05),
            },
        }

    match = {"key": "p1003/s3/d3", "index": 1, "train_key": "p0211/s1/d1", "own_patient": False}
    return {
        "false_match_rate": 0.01,
        "n_train": 1400,
        "n_held_out": 400,
        "n_generated": 600,
        "share": {"value": 2 / 600, "low": 0.000404, "high": 0.011985},
        "num_matches": 2,
        "num_train_matched": 1,
        "detects": True,
        "spaces": [space("cnn-64", "cosine", 128, 0.11), space("pixels", "euclidean", 1024, 2.4)],
        "controls": controls,
        "matches": [
            match | {"space": "pixels", "spaces": ["pixels", "cnn-64"], "distance": 1.97},
            match
            | {"key": "p1001/s1/d1", "space": "cnn-64", "spaces": ["cnn-64"], "distance": 0.104},
        ],
        "train_duplicates": 4,
    }


def preflight() -> Results:
    def folder(name: str, pictures: int, duplicates: list[list[str]]) -> Results:
        problems = ["2 pictures are equal, pixel for pixel"] if duplicates else []
        return {
            "name": name,
            "pictures": pictures,
            "unreadable": [],
            "num_unreadable": 0,
            "sizes": {"64 × 64": pictures},
            "modes": {"L": pictures},
            "num_constant": 0,
            "constant": [],
            "num_duplicates": len(duplicates),
            "duplicates": duplicates,
            "problems": problems,
        }

    return {
        "folders": [
            folder("generated", 600, [["p1001/s1/d1-0", "p1001/s1/d1-1"]]),
            folder("without alignment", 600, []),
            folder("diffusion peer", 600, []),
        ],
        "copies_of_training": {"num": 0, "pairs": []},
    }


def comparison() -> Results:
    """Ours against a run without alignment and another kind of model."""
    names = ("phantom-llama-arra", "without alignment", "diffusion peer")
    kinds = ("run", "run", "pictures")
    table = (
        ("kid", "cnn-64", "lower", (0.0213, 0.0318, 0.0124), 0.003),
        ("recall", "cnn-64", "higher", (0.44, 0.36, 0.61), 0.03),
        ("auroc", "cnn-judge-64", "higher", (0.77, 0.71, 0.78), 0.028),
        ("auroc", "Pneumothorax", "higher", (0.63, 0.55, 0.60), 0.10),
    )
    measures, differences = [], []
    for measure, subject, aim, values, half in table:
        rows: list[Results] = [
            {"generator": name, "value": estimate(value, half)}
            for name, value in zip(names, values, strict=True)
        ]
        row: Results = {"measure": measure, "subject": subject, "aim": aim, "values": rows}
        if measure == "auroc":
            row["real"] = estimate(0.9, 0.02)
            for one in rows:
                one["difference_to_real"] = estimate(one["value"]["value"] - 0.9, half)
        measures.append(row)
        for first, second in ((0, 1), (0, 2), (1, 2)):
            gap = values[first] - values[second]
            clear = abs(gap) > half
            differences.append(
                {
                    "measure": measure,
                    "subject": subject,
                    "first": names[first],
                    "second": names[second],
                    "difference": estimate(gap, half),
                    "p": 0.001 if clear else 0.2,
                    "p_adjusted": 0.012 if clear else 0.8,
                }
            )
    published = {"source": "CheXGenBench, table 1", "ours": False}
    return {
        "generators": [
            {"name": name, "kind": kind, "n": 600, "model": {"name": name}}
            for name, kind in zip(names, kinds, strict=True)
        ],
        "measures": measures,
        "differences": differences,
        "adjustment": "Holm over 12 comparisons",
        "chexgenbench": {
            "comparable": False,
            "note": "the pictures are not of MIMIC-CXR's official test split",
            "rows": [
                {"name": "phantom-llama-arra", "fd": 21.4, "recall": 0.44, "coverage": 0.58,
                 "precision": 0.71, "source": "this evaluation", "ours": True},
                published | {"name": "Sana 0.60B", "fd": 54.2, "recall": 0.614,
                             "coverage": 0.548, "precision": None},
                published | {"name": "LLM-CXR", "fd": 71.2, "recall": 0.041,
                             "coverage": 0.459, "precision": 0.782},
            ],
        },
    }  # fmt: skip


def goals() -> list[Results]:
    base = {"finding": None, "at_least": None, "at_most": None, "note": ""}
    within = "cannot say: the interval contains the goal"
    return [
        base
        | {"measure": "auroc", "at_least": 0.75, "value": estimate(0.77, 0.028), "met": None}
        | {"note": within},
        base
        | {"measure": "missed_per_100", "finding": "Pneumothorax", "at_most": 15.0}
        | {"value": {"value": 33.3, "low": 26.3, "high": 40.3}, "met": False},
        base | {"measure": "view_agreement", "at_least": 0.8, "met": True}
        | {"value": estimate(0.882, 0.026, 600)},
        base | {"measure": "copies_per_100", "at_most": 0.5, "met": None}
        | {"value": {"value": 0.333, "low": 0.0404, "high": 1.1985}, "note": within},
    ]  # fmt: skip


def panel(rule: str, number: int) -> Results:
    prompts = (
        "PA view chest x-ray image, moderate left pleural effusion. Heart size is normal.",
        "AP view chest x-ray image, cardiomegaly. No pneumothorax or focal consolidation.",
        "PA view chest x-ray image, right lower lobe consolidation, may represent pneumonia.",
        "Lateral view chest x-ray image, no acute cardiopulmonary process.",
    )
    asked = (["Pleural Effusion"], ["Cardiomegaly"], ["Consolidation"], [])[number % 4]
    names = ("Pleural Effusion", "Cardiomegaly", "Consolidation", "Nodule", "Support Devices")
    rng = np.random.default_rng(number)
    made = {name: float(rng.uniform(0.02, 0.3)) for name in names}
    real = {name: float(rng.uniform(0.02, 0.3)) for name in names}
    for name in asked:
        made[name] = 0.12 if rule == "worst" else 0.83
        real[name] = 0.93
    if rule == "worst":
        made["Nodule"] = 0.71
    stem = f"panels/{rule}-{number}"
    row = {
        "rule": rule,
        "key": f"p{1000 + number}/s{number}/d{number}",
        "index": number % 2,
        "view": ("PA", "AP", "PA", "lateral")[number % 4],
        "prompt": prompts[number % 4],
        "generated": f"{stem}-generated.png",
        "real": f"{stem}-real.png",
        "asked": asked,
        "judge_generated": made,
        "judge_real": real,
    }
    if rule == "closest":
        nearest = {"train_key": f"p0{200 + number}/s1/d1", "space": "pixels"}
        row |= nearest | {"distance": 1.9 + 0.1 * number, "judge_real": {}}
    return row
