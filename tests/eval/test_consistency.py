import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from arra_med.eval.consistency import (
    Verdicts,
    balanced_threshold,
    count_labels,
    disagreement,
    judge_finding,
    label_array,
    overall,
    shown_in_normal,
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


def test_balanced_threshold_separates_what_is_separable():
    assert balanced_threshold(np.array([0, 1]), np.array([0.2, 0.8])) == pytest.approx(0.5)
    assert balanced_threshold(np.array([1, 1]), np.array([0.2, 0.8])) is None
    assert balanced_threshold(np.array([NAN, -1]), np.array([0.2, 0.8])) is None


def test_balanced_threshold_equals_every_candidate_tried_and_needs_little_memory():
    rng = np.random.default_rng(4)
    for n in (10, 300):
        labels, scores = rng.integers(0, 2, n).astype(float), rng.integers(0, 90, n) / 90
        positive, negative = scores[labels == 1], scores[labels == 0]
        levels = np.unique(scores)
        candidates = np.concatenate([levels[:1], (levels[:-1] + levels[1:]) / 2])
        gaps = [abs((positive >= c).mean() - (negative < c).mean()) for c in candidates]
        assert balanced_threshold(labels, scores) == candidates[np.argmin(gaps)]
    labels, scores = rng.integers(0, 2, 4000).astype(float), rng.uniform(size=4000)
    tracemalloc.start()
    balanced_threshold(labels, scores)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20  # positives × levels were 8 MB


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


def test_without_a_threshold_rates_are_null_with_the_reason():
    labels = np.array([1.0, 0.0] * 20)
    scores = np.linspace(0, 1, 40)
    result = judge_finding(
        Verdicts(labels=labels, generated=scores, real=scores, threshold=None), bootstrap(40)
    )
    assert result["threshold"] is None
    assert result["sensitivity"] is None
    assert result["missed_per_100"] is result["missed_more_p"] is None
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
    assert set(nothing) == set(result) | {f"{name}_note" for name in result}
    assert nothing["auroc_real"] is nothing["missed_more"] is None
    assert nothing["auroc_real_note"]


def test_disagreement_uses_known_labels_only():
    labels = {"a": np.array([1, 0, NAN, -1]), "b": np.array([1, NAN, NAN, 0])}
    probabilities = {"a": np.array([0.9, 0.3, 0.5, 0.5]), "b": np.array([0.5, 0.5, 0.5, 0.2])}
    np.testing.assert_allclose(
        disagreement(labels, probabilities, 4), [0.3, 0.3, NAN, 0.2], atol=1e-12
    )
    assert np.isnan(disagreement({}, {}, 2)).all()


def test_histograms_count_generated_pictures_and_each_real_one_once():
    result = judge_finding(
        Verdicts(
            labels=label_array([1, 1, 1, 0, None]),
            generated=np.array([0.05, 0.1, 1.0, 0.31, 0.5]),
            real=np.array([0.95, 0.95, 0.2, 0.0, 0.5]),
            threshold=0.5,
            prompts=["a", "a", "b", "c", "d"],
        ),
        bootstrap(5),
    )
    histogram = result["histogram"]
    assert histogram["edges"] == pytest.approx(np.linspace(0, 1, 11))
    assert histogram["asked_generated"] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]  # 1 is in the last
    assert histogram["asked_real"] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 1]  # one picture of prompt a
    assert histogram["excluded_generated"] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert histogram["excluded_real"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert result["unmentioned"] == 1


def test_verdicts_that_are_no_probabilities_are_refused():
    labels, logits = np.array([1.0, 0.0]), np.array([3.2, -1.0])
    with pytest.raises(ValueError, match=r"got -1 to 3\.2 on generated pictures"):
        judge_finding(
            Verdicts(labels=labels, generated=logits, real=labels, threshold=0.5), bootstrap(2)
        )


def test_kappa_equals_sklearn():
    rng = np.random.default_rng(4)
    real = rng.random(200)
    generated = np.where(rng.random(200) < 0.7, real, rng.random(200))
    labels = (real + rng.random(200) > 1).astype(float)
    result = judge_finding(
        Verdicts(labels=labels, generated=generated, real=real, threshold=0.7), bootstrap(200)
    )
    kappa = result["agreement_kappa"]
    assert kappa["value"] == pytest.approx(cohen_kappa_score(generated >= 0.7, real >= 0.7))
    assert kappa["low"] < kappa["value"] < kappa["high"]


def test_a_missing_rate_of_normal_films_says_why():
    name = "normal_with_finding_per_100"
    values = {"labels": np.zeros(50), "generated": np.zeros(50), "real": np.zeros(50)}
    normal = np.ones(50, dtype=bool)
    without = Verdicts(**values, threshold=None)
    for findings in ([], [without]):
        row = shown_in_normal(findings, normal, bootstrap(50), least=20)
        assert row[name] is None
        assert row[f"{name}_note"] == "the judge recognises no finding that has a threshold"
    of_ten = Verdicts(**values, threshold=0.5, prompts=[str(i // 5) for i in range(50)])
    row = shown_in_normal([of_ten], normal, bootstrap(50), least=20)
    assert row[f"{name}_note"] == "10 prompts for a normal film; 20 are needed"
    assert shown_in_normal([of_ten], normal, bootstrap(50), least=10)[name]["value"] == 0
