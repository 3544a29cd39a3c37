import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from arra_med.eval.consistency import (
    Verdicts,
    balanced_threshold,
    count_labels,
    disagreement,
    judge_finding,
    label_array,
    overall,
)
from arra_med.eval.intervals import ClusteredBootstrap

NAN = np.nan


def bootstrap(num, replicates=300):
    clusters = [f"p{i // 2}" for i in range(num)]
    return ClusteredBootstrap(clusters, replicates=replicates, generator=np.random.default_rng(0))


def test_counts_add_up():
    values = [1, 1, 0, -1, None, None, None]
    assert count_labels(values) == {"positives": 2, "negatives": 1, "uncertain": 1, "unknown": 3}
    assert sum(count_labels(values).values()) == len(values)


def test_balanced_threshold_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1, -1, NAN])
    probabilities = np.array([0.1, 0.2, 0.6, 0.5, 0.7, 0.9, 0.99, 0.0])
    # at 0.55: sensitivity 2/3, specificity 2/3; uncertain and unknown pictures do not count
    assert balanced_threshold(labels, probabilities) == pytest.approx(0.55)


def test_balanced_threshold_separates_what_is_separable():
    assert balanced_threshold(np.array([0, 1]), np.array([0.2, 0.8])) == pytest.approx(0.5)
    assert balanced_threshold(np.array([1, 1]), np.array([0.2, 0.8])) is None
    assert balanced_threshold(np.array([NAN, -1]), np.array([0.2, 0.8])) is None


def test_a_finding_by_hand():
    labels = label_array([1, 1, 1, 1, 0, 0, 0, 0, -1, None])
    real = np.array([0.9, 0.8, 0.7, 0.4, 0.1, 0.2, 0.3, 0.6, 0.9, 0.1])
    generated = np.array([0.9, 0.2, 0.7, 0.4, 0.1, 0.8, 0.7, 0.6, 0.1, 0.1])
    result = judge_finding(
        Verdicts(labels=labels, generated=generated, real=real, threshold=0.5), bootstrap(10)
    )
    assert result["sensitivity"]["value"] == 0.5  # 2 of 4
    assert result["specificity"]["value"] == 0.25  # 1 of 4
    assert result["missed_per_100"] == 50
    assert result["invented_per_100"] == 75
    assert result["real_missed_per_100"] == 25
    assert result["real_invented_per_100"] == 25
    assert result["agreement"]["value"] == pytest.approx(6 / 10)  # unlabelled pictures count too
    known = np.isin(labels, [0, 1])
    expected = [roc_auc_score(labels[known], p[known]) for p in (generated, real)]
    assert result["auroc_generated"]["value"] == pytest.approx(expected[0])
    assert result["auroc_real"]["value"] == pytest.approx(expected[1])
    assert result["auroc_difference"]["value"] == pytest.approx(expected[0] - expected[1])


def test_uncertain_and_unknown_labels_change_nothing_but_agreement():
    rng = np.random.default_rng(0)
    labels = np.array([1.0, 0.0] * 30)
    real, generated = rng.uniform(size=60), rng.uniform(size=60)
    masked = np.concatenate([labels, [-1, NAN] * 5])
    more = np.concatenate([generated, rng.uniform(size=10)])
    more_real = np.concatenate([real, rng.uniform(size=10)])
    first = judge_finding(
        Verdicts(labels=labels, generated=generated, real=real, threshold=0.5), bootstrap(60)
    )
    second = judge_finding(
        Verdicts(labels=masked, generated=more, real=more_real, threshold=0.5), bootstrap(70)
    )
    for name in ("auroc_real", "auroc_generated", "sensitivity", "specificity"):
        assert first[name]["value"] == second[name]["value"]


def test_better_than_real_is_a_warning():
    rng = np.random.default_rng(1)
    labels = np.array([1.0, 0.0] * 60)
    real = 0.5 * labels + rng.normal(size=120) * 0.5
    caricature = labels + rng.normal(size=120) * 0.05
    verdicts = Verdicts(labels=labels, generated=caricature, real=real, threshold=0.5)
    assert "caricature" in judge_finding(verdicts, bootstrap(120))["warning"]
    fair = Verdicts(labels=labels, generated=real, real=real, threshold=0.5)
    assert judge_finding(fair, bootstrap(120))["warning"] is None
    blind = Verdicts(labels=labels, generated=real, real=rng.normal(size=120), threshold=0.5)
    assert "hardly recognises" in judge_finding(blind, bootstrap(120))["warning"]


def test_without_a_threshold_rates_are_null_with_the_reason():
    labels = np.array([1.0, 0.0] * 20)
    scores = np.linspace(0, 1, 40)
    result = judge_finding(
        Verdicts(labels=labels, generated=scores, real=scores, threshold=None), bootstrap(40)
    )
    assert result["threshold"] is None
    assert result["sensitivity"] is None
    assert result["missed_per_100"] is None
    assert "validate split" in result["missed_per_100_note"]
    assert result["auroc_real"]["value"] == pytest.approx(0.475)


def test_overall_is_the_mean_over_findings():
    rng = np.random.default_rng(2)
    findings = [
        Verdicts(
            labels=rng.integers(0, 2, 80).astype(float),
            generated=rng.uniform(size=80),
            real=rng.uniform(size=80),
            threshold=0.5,
        )
        for _ in range(3)
    ]
    result = overall(findings, bootstrap(80))
    expected = np.mean([roc_auc_score(f.labels, f.generated) for f in findings])
    assert result["auroc_generated"]["value"] == pytest.approx(expected)
    assert result["auroc_generated"]["low"] < expected < result["auroc_generated"]["high"]
    nothing = overall([], bootstrap(80))
    assert nothing["auroc_real"] is None
    assert nothing["auroc_real_note"]


def test_disagreement_uses_known_labels_only():
    labels = {"a": np.array([1, 0, NAN, -1]), "b": np.array([1, NAN, NAN, 0])}
    probabilities = {"a": np.array([0.9, 0.3, 0.5, 0.5]), "b": np.array([0.5, 0.5, 0.5, 0.2])}
    np.testing.assert_allclose(
        disagreement(labels, probabilities, 4), [0.3, 0.3, NAN, 0.2], atol=1e-12
    )
    assert np.isnan(disagreement({}, {}, 2)).all()
