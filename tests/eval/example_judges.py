"""What two judges say of a fair generator of phantoms."""

from typing import Any

import numpy as np

Results = dict[str, Any]

PHANTOMS = "labels of the train split of drawn phantoms"


def estimate(value: float, half: float, n: int | None = None) -> Results:
    """A value with a symmetric interval, kept within [-1, 1]."""
    ends: Results = {"value": value, "low": max(-1.0, value - half), "high": min(1.0, value + half)}
    return ends if n is None else ends | {"n": n}


def bell(centre: float, total: int, bins: int = 10, width: float = 0.15) -> list[int]:
    """Counts of a histogram over ``bins`` equal bins of [0, 1], heaped around ``centre``."""
    middles = (np.arange(bins) + 0.5) / bins
    weight = np.exp(-0.5 * ((middles - centre) / width) ** 2)
    ends = np.round(total * np.cumsum(weight) / weight.sum()).astype(int)
    return [int(count) for count in np.diff(ends, prepend=0)]


def finding(name: str, positives: int, real: float, made: float, half: float = 0.05) -> Results:
    missed, real_missed = 100 * (1 - made) * 0.9, 100 * (1 - real) * 0.9
    negatives, more = 260 - positives, missed - real_missed
    return {
        "finding": name,
        "positives": positives,
        "negatives": negatives,
        "uncertain": 12,
        "unknown": 28,
        "status": "scored",
        "threshold": 0.37,
        "auroc_real": estimate(real, 0.03),
        "auroc_generated": estimate(made, half),
        "auroc_difference": estimate(made - real, half),
        "auroc_difference_p": 0.004 if abs(made - real) > half else 0.21,
        "auroc_difference_p_adjusted": 0.024 if abs(made - real) > half else 0.42,
        "sensitivity": estimate(1 - missed / 100, 0.07),
        "specificity": estimate(1 - 0.8 * missed / 100, 0.05),
        "missed_per_100": missed,
        "invented_per_100": 0.8 * missed,
        "real_missed_per_100": real_missed,
        "real_invented_per_100": 0.8 * real_missed,
        "missed_more": {"value": more, "low": more - 7, "high": more + 7},
        "missed_more_p": 0.003 if missed > real_missed + 7 else 0.3,
        "missed_more_p_adjusted": 0.018 if missed > real_missed + 7 else 0.6,
        "unmentioned": 28,
        "invented_unmentioned_per_100": 0.9 * missed,
        "real_invented_unmentioned_per_100": 0.9 * real_missed,
        "agreement": estimate(0.5 + made / 3, 0.04),
        "histogram": {
            "edges": [round(0.1 * edge, 1) for edge in range(11)],
            "asked_generated": bell(made - 0.2, 2 * positives),
            "asked_real": bell(real - 0.15, positives),
            "excluded_generated": bell(1.1 - made, 2 * negatives),
            "excluded_real": bell(1.0 - real, negatives),
        },
        "warning": None,
    }


def too_few(name: str, positives: int) -> Results:
    row = dict.fromkeys(finding(name, positives, 0.9, 0.8))
    return row | {
        "finding": name,
        "positives": positives,
        "negatives": 280 - positives,
        "uncertain": 4,
        "unknown": 16,
        "status": "too few",
        "status_note": f"{positives} prompts with it and {280 - positives} without; 20 of each "
        "are needed",
    }


def judges() -> list[Results]:
    """A good judge and a weaker one, which reads fewer findings."""
    first = [
        finding("Pleural Effusion", 84, 0.94, 0.86),
        finding("Cardiomegaly", 71, 0.95, 0.90, 0.04),
        finding("Pneumothorax", 38, 0.91, 0.63, 0.10),
        finding("Consolidation", 52, 0.88, 0.74, 0.07),
        finding("Nodule", 29, 0.83, 0.53, 0.11),
        finding("Support Devices", 60, 0.90, 0.96, 0.03),
        too_few("Enlarged Cardiomediastinum", 7),
        too_few("Fracture", 1),
    ]
    first[5]["auroc_difference"] = estimate(0.06, 0.03)
    first[5]["warning"] = (
        "the judge recognises this finding better in generated than in real pictures: a sign of "
        "caricature, not of quality"
    )
    second = [
        finding("Pleural Effusion", 84, 0.87, 0.80),
        finding("Cardiomegaly", 71, 0.86, 0.84, 0.05),
        finding("Consolidation", 52, 0.76, 0.69, 0.08),
        too_few("Fracture", 1)
        | {"status": "not judged", "status_note": "the probe was fitted without it"},
    ]
    rule = "balanced point on the real pictures of the validate split"
    common = {
        "trained_on": PHANTOMS,
        "saw": [],
        "independent": True,
        "not_independent_because": [],
        "threshold_rule": rule,
    }
    return [
        common
        | {
            "name": "cnn-judge-64",
            "preprocessing": "64 px, grey",
            "not_judged": {},
            "findings": first,
            "overall": {
                "auroc_real": estimate(0.902, 0.014),
                "auroc_generated": estimate(0.77, 0.028),
                "auroc_difference": estimate(-0.132, 0.026),
                "missed_more": {"value": 9.0, "low": 6.1, "high": 11.9, "n": 334},
                "invented_more": {"value": 10.1, "low": 8.2, "high": 12.0, "n": 1226},
            },
        },
        common
        | {
            "name": "probe-on-cnn-64",
            "preprocessing": "64 px, grey, a linear probe on features",
            "not_judged": {"Fracture": "the probe was fitted without it"},
            "findings": second,
            "overall": {
                "auroc_real": estimate(0.83, 0.02),
                "auroc_generated": estimate(0.777, 0.03),
                "auroc_difference": estimate(-0.053, 0.03),
                "missed_more": {"value": 4.8, "low": 1.9, "high": 7.7, "n": 207},
                "invented_more": {"value": 3.9, "low": 1.6, "high": 6.2, "n": 573},
            },
        },
    ]
