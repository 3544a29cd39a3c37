"""Requirement 7: finding-level faithfulness as EVALUATION.md defines it, and intervals that cover
the truth in 93 to 97 % of simulated cohorts judged with known error rates.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from arra_med.eval.consistency import (
    Verdicts,
    adjust_tests,
    balanced_threshold,
    judge_finding,
    label_array,
    overall,
)
from arra_med.eval.estimators import auroc, average, difference, weighted_mean
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.judging import Judged, findings_sections
from arra_med.eval.multiplicity import holm

NAN = np.nan


@dataclass(frozen=True)
class Setting:
    """Cohorts as they come: patients of one to ``most`` pictures, and a judge of known errors.

    The judge's scores are normal with unit variance, shifted where the finding is; a share
    ``correlation`` of the variance belongs to the patient, half of that to real and generated
    pictures alike, and part of the rest to the prompt.
    """

    patients: int
    most: int
    prevalence: float
    auroc_real: float
    auroc_generated: float
    correlation: float
    drawn: int = 1  # pictures a prompt

    @property
    def shifts(self):
        return [np.sqrt(2) * norm.ppf(area) for area in (self.auroc_real, self.auroc_generated)]

    @property
    def threshold(self):
        return self.shifts[0] / 2  # as sensitive as specific on real pictures

    def cohort(self, rng, patients=None):
        """Whose each picture is, labels, and scores on real and generated pictures."""
        num = patients or self.patients
        who = np.repeat(np.arange(num), rng.integers(1, self.most + 1, num))
        stays = rng.random(len(who)) < 0.7  # a patient's pictures mostly have the same findings
        labels = np.where(
            stays, (rng.random(num) < self.prevalence)[who], rng.random(len(who)) < self.prevalence
        ).astype(float)
        both, *own = rng.normal(size=(3, num))
        of_prompt = rng.normal(size=len(who))
        rows = (np.arange(len(who)), np.repeat(np.arange(len(who)), self.drawn))
        scores = []
        for shift, alone, row in zip(self.shifts, own, rows, strict=True):
            patient = np.sqrt(0.5) * (both + alone)[who[row]]
            rest = np.sqrt(0.3) * of_prompt[row] + np.sqrt(0.7) * rng.normal(size=len(row))
            noise = np.sqrt(self.correlation) * patient + np.sqrt(1 - self.correlation) * rest
            scores.append(shift * labels[row] + noise)
        return who[rows[1]], labels[rows[1]], scores[0][rows[1]], scores[1]

    def truth(self):
        """What the intervals ought to contain."""
        sensitivity = [norm.sf(self.threshold - shift) for shift in self.shifts]
        _, _, real, generated = self.cohort(np.random.default_rng(1), patients=100_000)
        same = (real >= self.threshold) == (generated >= self.threshold)
        return {
            "auroc_real": self.auroc_real,
            "auroc_generated": self.auroc_generated,
            "auroc_difference": self.auroc_generated - self.auroc_real,
            "sensitivity": sensitivity[1],
            "specificity": norm.cdf(self.threshold),
            "missed_more": sensitivity[0] - sensitivity[1],
            "agreement": same.mean(),
        }


def intervals(setting, cohort, rng):
    who, labels, real, generated = cohort
    resampler = ClusteredBootstrap([str(name) for name in who], replicates=250, generator=rng)
    shown, real_shown = (scores >= setting.threshold for scores in (generated, real))

    def share(hits, among):
        return weighted_mean(np.where(among, hits.astype(float), NAN))

    made, ceiling = auroc(labels, generated), auroc(labels, real)
    missed = [share(~hits, labels == 1) for hits in (shown, real_shown)]
    measures = {
        "auroc_real": ceiling,
        "auroc_generated": made,
        "auroc_difference": difference(made, ceiling),
        "sensitivity": share(shown, labels == 1),
        "specificity": share(~shown, labels == 0),
        "missed_more": difference(*missed),
        "agreement": share(shown == real_shown, labels >= 0),
    }
    return {name: resampler.interval(measure) for name, measure in measures.items()}


@pytest.mark.parametrize(
    "setting",
    [
        Setting(150, 1, 0.17, 0.90, 0.80, 0.0),  # some 26 positives, one picture a patient
        Setting(100, 5, 0.14, 0.85, 0.70, 0.4),  # some 42 positives of 28 patients
        Setting(100, 3, 0.17, 0.80, 0.75, 0.4, drawn=2),  # two pictures of each prompt
    ],
    ids=["alone", "patients", "twice"],
)
def test_intervals_cover_the_truth(setting):
    """700 cohorts: the standard error of a coverage of 95 % is 0.8 points, so that a measure with
    95 % falls out of 93 to 97 with one seed of 65, and one with 91 % comes in with one of 30.
    """
    rng, truth, cohorts = np.random.default_rng(11), setting.truth(), 700
    covered, test_agrees = dict.fromkeys(truth, 0), True
    for _ in range(cohorts):
        cohort = setting.cohort(rng)
        while cohort[1].sum() < 20 * setting.drawn:  # too few to be scored
            cohort = setting.cohort(rng)
        for name, interval in intervals(setting, cohort, rng).items():
            covered[name] += interval.low - 1e-12 <= truth[name] <= interval.high + 1e-12
            if interval.p is not None:
                test_agrees &= (interval.p < 0.05) == (interval.low > 0 or interval.high < 0)
    shares = {name: count / cohorts for name, count in covered.items()}
    assert {name: share for name, share in shares.items() if not 0.93 <= share <= 0.97} == {}
    assert test_agrees


def test_p_values_of_no_difference_are_uniform_enough():
    """Under no difference 5 % of tests reject at 5 %: 25 ± 4.9 of 500."""
    setting, rng, rejected = Setting(150, 2, 0.15, 0.8, 0.8, 0.3), np.random.default_rng(3), 0
    for _ in range(500):
        who, labels, real, generated = setting.cohort(rng)
        names = [str(name) for name in who]
        resampler = ClusteredBootstrap(names, replicates=250, generator=rng)
        gap = difference(auroc(labels, generated), auroc(labels, real))
        rejected += resampler.interval(gap).p < 0.05
    assert 12 <= rejected <= 38


@pytest.mark.parametrize("correlation", [0.0, 0.8], ids=["apart", "alike"])
def test_mean_areas_cover_the_truth(correlation):
    """Five findings with some 26 positives each, whose scores may go together in a picture."""
    rng, areas, covered, cohorts = np.random.default_rng(12), np.linspace(0.7, 0.9, 5), 0, 500
    for _ in range(cohorts):
        labels = (rng.random((5, 150)) < 0.17).astype(float)
        noise = np.sqrt(1 - correlation) * rng.normal(size=(5, 150))
        noise += np.sqrt(correlation) * rng.normal(size=150)
        scores = np.sqrt(2) * norm.ppf(areas)[:, None] * labels + noise
        parts = [auroc(of, by) for of, by in zip(labels, scores, strict=True)]
        names = [str(i) for i in range(150)]
        resampler = ClusteredBootstrap(names, replicates=1, generator=rng)
        interval = resampler.interval(average(parts))
        covered += interval.low <= areas.mean() <= interval.high
    assert 0.93 <= covered / cohorts <= 0.97


def bootstrap(num, replicates=300, a_patient=2):
    clusters = [f"p{i // a_patient}" for i in range(num)]
    return ClusteredBootstrap(clusters, replicates=replicates, generator=np.random.default_rng(0))


FINDING = {
    "labels": label_array([1, 1, 1, 1, 0, 0, 0, 0, -1, None, None]),
    "real": np.array([0.9, 0.8, 0.7, 0.4, 0.1, 0.2, 0.3, 0.6, 0.9, 0.1, 0.2]),
    "generated": np.array([0.9, 0.2, 0.7, 0.4, 0.1, 0.8, 0.7, 0.6, 0.1, 0.1, 1.0]),
    "threshold": 0.5,
}


def test_a_finding_by_hand():
    result = judge_finding(Verdicts(**FINDING), bootstrap(11))
    assert result["sensitivity"]["value"] == 0.5  # 2 of 4
    assert result["specificity"]["value"] == 0.25  # 1 of 4
    assert result["missed_per_100"] == 50
    assert result["real_missed_per_100"] == 25
    assert result["missed_more"]["value"] == pytest.approx(25)
    assert result["agreement"]["value"] == pytest.approx(6 / 11)  # unlabelled pictures count too
    known = np.isin(FINDING["labels"], [0, 1])
    expected = [
        roc_auc_score(FINDING["labels"][known], FINDING[name][known])
        for name in ("generated", "real")
    ]
    assert result["auroc_generated"]["value"] == pytest.approx(expected[0])
    assert result["auroc_real"]["value"] == pytest.approx(expected[1])
    assert result["auroc_difference"]["value"] == pytest.approx(expected[0] - expected[1])


def test_explicit_negatives_are_apart_from_what_is_not_mentioned():
    result = judge_finding(Verdicts(**FINDING), bootstrap(11))
    assert result["invented_per_100"] == 75  # 3 of 4 prompts that exclude it
    assert result["real_invented_per_100"] == 25
    assert result["unmentioned"] == 2
    assert result["invented_unmentioned_per_100"] == 50  # 1 of 2 that say nothing of it
    assert result["real_invented_unmentioned_per_100"] == 0


def test_better_than_real_is_a_warning():
    rng = np.random.default_rng(1)
    labels = np.array([1.0, 0.0] * 60)
    real = norm.cdf(labels - 0.5 + rng.normal(size=120))
    caricature = norm.cdf(4 * labels - 2 + rng.normal(size=120) * 0.1)
    verdicts = Verdicts(labels=labels, generated=caricature, real=real, threshold=0.5)
    assert "caricature" in judge_finding(verdicts, bootstrap(120))["warning"]
    fair = Verdicts(labels=labels, generated=real, real=real, threshold=0.5)
    assert judge_finding(fair, bootstrap(120))["warning"] is None
    blind = Verdicts(labels=labels, generated=real, real=rng.random(120), threshold=0.5)
    assert "hardly recognises" in judge_finding(blind, bootstrap(120))["warning"]


def test_thresholds_are_those_of_real_validation_pictures():
    """At 0.55 sensitivity and specificity are both 2/3; uncertain and unknown do not count."""
    labels = np.array([0, 0, 0, 1, 1, 1, -1, NAN])
    probabilities = np.array([0.1, 0.2, 0.6, 0.5, 0.7, 0.9, 0.99, 0.0])
    assert balanced_threshold(labels, probabilities) == pytest.approx(0.55)


def simulated(rng, num, auroc_generated):
    setting = Setting(num, 1, 0.5, 0.9, auroc_generated, 0.0)
    _, labels, real, generated = setting.cohort(rng)
    return labels, norm.cdf(real), norm.cdf(generated), float(norm.cdf(setting.threshold))


def sections(num=120):
    """Three findings scored, one too rare and one that the judge does not know."""
    rng, names = np.random.default_rng(5), ("Same", "Worse", "Alike", "Rare", "Unknown")
    columns = {name: simulated(rng, num, 0.6 if name == "Worse" else 0.9) for name in names}
    columns["Rare"][0][19:] = 0
    labels = {name: [int(value) for value in column[0]] for name, column in columns.items()}
    samples = [{"labels": {name: labels[name][i] for name in names}} for i in range(num)]
    keys = [f"s{i}" for i in range(num)]
    cohort = SimpleNamespace(prompts=samples, sample_of=samples, keys=keys)
    known = names[:-1]
    judged = Judged(
        generated={name: columns[name][2] for name in known},
        real={name: columns[name][1] for name in known},
        thresholds={name: columns[name][3] for name in known},
    )
    judge = SimpleNamespace(not_judged={}, info=SimpleNamespace(name="a judge"))
    return findings_sections(
        judge, judged, cohort, names, bootstrap=bootstrap(num, a_patient=1), min_positives=20
    )  # fmt: skip


def test_findings_with_few_positives_are_suppressed():
    rows, pooled = sections()
    status = {row["finding"]: row["status"] for row in rows}
    assert status == {
        "Same": "scored", "Worse": "scored", "Alike": "scored", "Rare": "too few",
        "Unknown": "not judged",
    }  # fmt: skip
    rare = rows[3]
    assert rare["positives"] < 20
    assert "20 of each are needed" in rare["status_note"]
    assert rare["auroc_generated"] is rare["missed_per_100"] is rare["missed_more_p"] is None
    assert all(set(rows[0]) <= set(row) | {"agreement_kappa_note"} for row in rows)
    assert pooled["missed_per_100"]["n"] == sum(row["positives"] for row in rows[:3])


def test_multiplicity_is_corrected_over_the_scored_findings():
    rows, _ = sections()
    for name in ("auroc_difference_p", "missed_more_p"):
        raw = [row[name] for row in rows[:3]]
        assert [row[f"{name}_adjusted"] for row in rows[:3]] == holm(raw)
        assert rows[1][f"{name}_adjusted"] < 0.05 < rows[0][f"{name}_adjusted"]
        assert rows[3][f"{name}_adjusted"] is rows[4][f"{name}_adjusted"] is None


def test_a_finding_without_a_p_value_is_not_counted():
    rows = [
        {"auroc_difference_p": 0.02, "missed_more_p": None},
        {"auroc_difference_p": 0.03, "missed_more_p": 0.04},
    ]
    adjust_tests(rows)
    assert [row["auroc_difference_p_adjusted"] for row in rows] == [0.04, 0.04]
    assert [row["missed_more_p_adjusted"] for row in rows] == [None, 0.04]


def test_holm_by_hand():
    """Holm's own steps: 0.01 · 4, 0.02 · 3, 0.03 · 2 (no smaller than before), 0.5 · 1."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        holm([0.1, NAN])


def test_pooled_rates_by_hand():
    other = {**FINDING, "labels": label_array([None] * 9 + [1, 0])}
    result = overall([Verdicts(**FINDING), Verdicts(**other)], bootstrap(11))
    assert result["missed_per_100"] | {"low": 0, "high": 0} == {
        "value": pytest.approx(60), "low": 0, "high": 0, "n": 5,  # 2 of 4 and 1 of 1
    }  # fmt: skip
    assert result["real_missed_per_100"]["value"] == pytest.approx(40)
    assert result["missed_more"]["value"] == pytest.approx(20)
    assert result["invented_per_100"]["value"] == pytest.approx(80)
    assert result["invented_more"]["value"] == pytest.approx(60)
    assert result["invented_more"]["low"] <= 60 <= result["invented_more"]["high"]
