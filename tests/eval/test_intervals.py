import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from arra_med.eval.estimators import auroc, average, difference, pair_mean, ratio, weighted_mean
from arra_med.eval.intervals import ClusteredBootstrap, clustered_share, exact_share
from arra_med.eval.measures import MOST_PAIRS
from arra_med.eval.similarity import random_pairs, same_prompt_pairs


def bootstrap(clusters, seed=0, replicates=500):
    return ClusteredBootstrap(
        clusters, replicates=replicates, generator=np.random.default_rng(seed)
    )


def test_auroc_equals_sklearn_with_ties_weights_and_masked_labels():
    rng = np.random.default_rng(0)
    labels = rng.choice([1, 0, -1, np.nan], size=200)
    scores = rng.integers(0, 12, size=200) / 12  # many ties
    weights = rng.integers(0, 4, size=(5, 200)).astype(float)
    known = np.isin(labels, [0, 1])
    expected = [
        roc_auc_score(labels[known], scores[known], sample_weight=row[known]) for row in weights
    ]
    np.testing.assert_allclose(auroc(labels, scores)(weights), expected, atol=1e-12)


def test_auroc_without_a_class_is_undefined():
    assert np.isnan(auroc(np.array([1.0, 1.0]), np.array([0.2, 0.4]))(np.ones((1, 2)))).all()


def test_weighted_mean_leaves_out_nan():
    statistic = weighted_mean(np.array([1.0, np.nan, 4.0]))
    np.testing.assert_allclose(statistic(np.array([[1, 1, 1], [2, 9, 1]])), [2.5, 2.0])


def test_pair_mean_weighs_a_pair_by_both_ends():
    statistic = pair_mean(np.array([[0, 1], [1, 2]]), np.array([1.0, 4.0]))
    np.testing.assert_allclose(statistic(np.array([[2.0, 3.0, 1.0]])), [(6 + 12) / 9])


def test_pictures_of_one_patient_are_drawn_together():
    clusters = ["b", "a", "b", "c"]
    seen = []
    bootstrap(clusters, replicates=50).resample(lambda w: seen.append(w) or w.sum(axis=1))
    weights = np.concatenate(seen)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)


def test_interval_covers_the_truth_and_widens_with_clustering():
    """Patients of three pictures whose values share a patient effect; the true mean is 0."""
    rng = np.random.default_rng(1)
    patients = [str(p) for p in range(40) for _ in range(3)]
    singles = [str(i) for i in range(120)]
    covered = naive = 0
    for seed in range(200):
        values = np.repeat(rng.normal(size=40), 3) + 0.3 * rng.normal(size=120)
        interval = bootstrap(patients, seed, 400).interval(weighted_mean(values))
        covered += interval.low <= 0 <= interval.high
        interval = bootstrap(singles, seed, 400).interval(weighted_mean(values))
        naive += interval.low <= 0 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99
    assert naive / 200 < 0.85


def test_paired_difference_is_narrower_than_its_parts():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, size=300).astype(float)
    scores = labels + rng.normal(size=300)
    other = scores + 0.1 * rng.normal(size=300)
    resampler = bootstrap([str(i) for i in range(300)])
    first, second = auroc(labels, scores), auroc(labels, other)
    gap, alone = resampler.interval(difference(first, second)), resampler.interval(first)
    assert gap.value == pytest.approx(
        roc_auc_score(labels, scores) - roc_auc_score(labels, other), abs=1e-12
    )
    assert gap.high - gap.low < (alone.high - alone.low) / 2
    both = resampler.interval(average([first, second]))
    assert both.value == pytest.approx(alone.value - gap.value / 2)


def test_the_same_seed_gives_the_same_interval():
    values = weighted_mean(np.arange(10.0))
    clusters = [str(i) for i in range(10)]
    assert bootstrap(clusters, 4).interval(values) == bootstrap(clusters, 4).interval(values)
    assert bootstrap(clusters, 4).interval(values) != bootstrap(clusters, 5).interval(values)


def test_what_cannot_be_had_says_why():
    one_patient = bootstrap(["a", "a"]).interval(weighted_mean(np.array([1.0, 3.0])))
    assert (one_patient.value, one_patient.low) == (2.0, None)
    assert "one patient" in one_patient.note
    undefined = bootstrap(["a", "b"]).interval(auroc(np.array([1.0, 1.0]), np.zeros(2)))
    assert undefined.value is None
    assert undefined.note
    rare = bootstrap(["a", "b", "c"]).interval(auroc(np.array([1.0, 0, 0]), np.array([1.0, 0, 0])))
    assert rare.value == 1
    assert rare.low is None
    assert "all pictures of one kind are of one patient" in rare.note
    sometimes = bootstrap(["a", "b", "c"]).interval(
        lambda w: np.where(w[:, 0] > 0, w[:, 1] / np.maximum(w[:, 0], 1), np.nan)
    )
    assert (sometimes.value, sometimes.low) == (1, None)
    assert "resamples" in sometimes.note
    with pytest.raises(ValueError, match="empty"):
        bootstrap([])


@pytest.mark.parametrize(("count", "n"), [(0, 20), (3, 20), (20, 20), (1, 1), (5, 4000)])
def test_exact_share_equals_scipys_clopper_pearson(count, n):
    share, expected = exact_share(count, n), binomtest(count, n).proportion_ci(method="exact")
    assert share.value == count / n
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high))
    assert exact_share(0, 0).value is None


@pytest.mark.parametrize("count", [0, 1, 17, 40])
def test_clustered_share_of_one_picture_a_patient_is_the_exact_one(count):
    found = clustered_share(np.arange(40) < count, [f"p{i}" for i in range(40)])
    expected = exact_share(count, 40)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == count / 40


@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_alike_pictures_of_a_patient_are_worth_one(count):
    hits, clusters = np.repeat(np.arange(10) < count, 20), np.repeat(np.arange(10), 20).astype(str)
    found, expected = clustered_share(hits, list(clusters)), exact_share(count, 10)
    assert found.value == expected.value
    if count in (0, 10):
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    else:  # wider: how alike they are is estimated, from ten patients
        assert expected.low / 5 < found.low < expected.low
        assert expected.high < found.high < expected.high + 0.1


@pytest.mark.parametrize("kind", ["share", "auroc"])
def test_differences_of_shares_and_aurocs_stay_within_their_bounds(kind):
    """Three patients, for whom Student's t is wide."""
    clusters = [f"p{i // 2}" for i in range(6)]
    if kind == "share":
        first, second = weighted_mean([1, 1, 1, 1, 0, 1]), weighted_mean([0, 1, 0, 0, 0, 0])
    else:
        labels = np.array([1, 0, 1, 0, 1, 0])
        first = auroc(labels, np.array([0.9, 0.1, 0.8, 0.3, 0.7, 0.4]))
        second = auroc(labels, np.array([0.1, 0.8, 0.3, 0.2, 0.4, 0.7]))
    found = bootstrap(clusters).interval(difference(first, second))
    assert (found.high, found.low < found.value) == (1, True)
    other = difference(weighted_mean(np.arange(6) / 2), weighted_mean(np.zeros(6)))
    assert bootstrap(clusters).interval(other).high > 1


def test_clustered_share_without_a_second_patient():
    assert clustered_share([], []).value is None
    assert clustered_share([True], ["a"]).value == 1
    found = clustered_share([True, False], ["a", "a"])
    assert (found.value, found.low) == (0.5, None)


def test_a_share_of_single_pictures_has_wilsons_interval():
    hits = np.repeat([1.0, 0.0], [30, 70])
    interval = bootstrap([str(i) for i in range(100)]).interval(weighted_mean(hits))
    expected = binomtest(30, 100).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=2e-3)


@pytest.mark.parametrize("hit", [0.0, 1.0])
def test_a_share_of_none_or_all_has_an_interval_that_patients_widen(hit):
    alone = bootstrap([str(i) for i in range(40)]).interval(weighted_mean(np.full(40, hit)))
    four = bootstrap([str(i // 4) for i in range(40)]).interval(weighted_mean(np.full(40, hit)))
    assert alone.value == four.value == hit
    widths = [interval.high - interval.low for interval in (alone, four)]
    assert 0.05 < widths[0] < 0.15
    assert 0.25 < widths[1] < 0.4  # as if ten pictures
    assert 0 <= four.low < four.high <= 1


def test_equal_shares_and_perfect_areas_have_a_difference_with_an_interval():
    labels, clusters = np.array([1.0, 0.0] * 30), [str(i) for i in range(60)]
    perfect = auroc(labels, labels)
    for measure in (perfect, weighted_mean(np.where(labels == 1, 1.0, np.nan))):
        gap = bootstrap(clusters).interval(difference(measure, measure))
        assert (gap.value, gap.p) == (0, 1)
        assert -0.2 < gap.low < -0.05 < 0.05 < gap.high < 0.2
    area = bootstrap(clusters).interval(perfect)
    assert area.value == area.high == 1
    assert 0.8 < area.low < 0.95


def test_an_areas_variance_is_that_of_delong():
    """On the scale of logits, from a double loop over placement values; patients of one picture."""
    rng = np.random.default_rng(3)
    labels = np.repeat([1.0, 0.0], [30, 50])
    scores = np.round(labels + rng.normal(size=80), 1)  # some ties
    wins = (scores[:30, None] > scores[30:]) + 0.5 * (scores[:30, None] == scores[30:])
    area = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / 30 + wins.mean(axis=0).var(ddof=1) / 50
    interval = bootstrap([str(i) for i in range(80)]).interval(auroc(labels, scores))
    logits = np.log([interval.low / (1 - interval.low), interval.high / (1 - interval.high)])
    found = np.diff(logits)[0] / 2 * area * (1 - area) / np.sqrt(variance)
    assert logits.mean() == pytest.approx(np.log(area / (1 - area)))
    assert 1.96 < found < 2.15  # Student's t with no more than 29 degrees of freedom


def test_p_follows_the_interval_and_the_size_of_the_difference():
    rng = np.random.default_rng(4)
    clusters, p_values = [str(i) for i in range(60)], []
    for size in (0.0, 0.1, 0.2, 0.4, 0.8):
        first, second = rng.normal(size, 0.5, size=(60)), rng.normal(0, 0.5, size=60)
        gap = bootstrap(clusters).interval(difference(weighted_mean(first), weighted_mean(second)))
        assert (gap.p < 0.05) == (gap.low > 0 or gap.high < 0)
        p_values.append(gap.p)
    assert p_values[0] > 0.05
    assert 0 < p_values[-1] < 1e-6  # beyond what resamples can count
    per_100 = gap.times(100)
    assert (per_100.low, per_100.p) == (100 * gap.low, gap.p)
    assert bootstrap(clusters).interval(weighted_mean(first)).p is None


def test_few_patients_get_students_interval():
    """Four patients: percentiles of resamples would end at the outermost patient."""
    values = np.array([0.0, 1.0, 2.5, 4.0])
    interval = bootstrap(list("abcd"), replicates=4000).interval(weighted_mean(values))
    half = 3.182 * values.std(ddof=1) / 2
    assert interval.high - interval.value == pytest.approx(half, rel=0.05)


def ends(interval):
    return interval.low, interval.high


def share_of(hits, among):
    return ratio(hits * among, among.astype(float))


@pytest.mark.parametrize("few", ["positives", "share"])
def test_a_mean_cannot_do_without_the_patients_of_any_part(few):
    """One finding's positives, or one side's pictures, are all of one patient."""
    rng, many = np.random.default_rng(0), np.arange(100) < 80
    clusters = [f"p{min(i, 80)}" for i in range(100)]
    if few == "positives":
        labels = np.where(many, np.arange(100) % 2, np.nan), np.where(many, 0.0, 1.0)
        known, unknown = (auroc(of, (of == 1) + rng.normal(size=100)) for of in labels)
    else:
        known, unknown = (share_of(rng.random(100) < 0.5, among) for among in (many, ~many))
    resampler = bootstrap(clusters, replicates=20)
    assert resampler.interval(known).low is not None
    alone, both = resampler.interval(unknown), resampler.interval(average([known, unknown]))
    gap = resampler.interval(difference(average([known, unknown]), average([known, known])))
    assert both.value == pytest.approx((resampler.interval(known).value + alone.value) / 2)
    for interval in (alone, both, gap):
        assert ends(interval) == (None, None)
        assert "of one patient" in interval.note


@pytest.mark.parametrize(
    ("sizes", "truth"), [((3, 100), 0.5), ((5, 100), 0.8), ((20, 100), 0.8), ((100, 100), 0.65)]
)
def test_a_mean_of_shares_is_no_surer_than_the_share_of_few(sizes, truth):
    """Sides asked for unequally often, one picture a patient."""
    rng, on_left = np.random.default_rng(8), np.arange(sum(sizes)) < sizes[0]
    covered = 0
    for _ in range(400):
        hits = rng.random(len(on_left)) < truth
        parts = [share_of(hits, on_left), share_of(hits, ~on_left)]
        resampler = bootstrap([str(i) for i in range(len(hits))], replicates=1)
        low, high = ends(resampler.interval(average(parts)))
        covered += low <= truth <= high
    assert covered / 400 >= 0.93
    assert covered / 400 <= 0.97 or min(sizes) < 20


def test_a_mean_of_the_same_is_as_sure_as_one_and_of_others_patients_surer():
    rng = np.random.default_rng(5)
    hits, first = rng.random(100) < 0.7, np.arange(100) < 50
    one, other = share_of(hits, first), share_of(hits, ~first)
    flat = share_of(np.ones(100), first), share_of(np.ones(100), ~first)
    apart = bootstrap([str(i) for i in range(100)], replicates=1)
    shared = bootstrap([str(i % 50) for i in range(100)], replicates=1)
    for pair in ((one, one), (one, other), flat):
        parts = [apart.interval(part) for part in pair]
        gaps = np.array([(part.value - part.low, part.high - part.value) for part in parts])
        width = gaps.mean(axis=0) if pair[0] is pair[1] else np.hypot(*gaps) / 2
        mean = apart.interval(average(pair))
        assert mean.value == pytest.approx(np.mean([part.value for part in parts]))
        found = mean.value - mean.low, mean.high - mean.value
        assert found == pytest.approx(tuple(width), abs=1e-12)
    # what does not vary is as alike as its patients are
    assert ends(shared.interval(average(flat))) == pytest.approx(ends(shared.interval(flat[0])))


@pytest.mark.parametrize("patients", [2, 20])
def test_parts_that_seem_opposed_make_a_mean_no_surer(patients):
    """A share and its complement, whose mean is always one half; two patients cannot tell."""
    hits, everywhere = np.arange(3 * patients) % 5 < 2, np.ones(3 * patients)
    resampler = bootstrap([str(i // 3) for i in range(3 * patients)], replicates=1)
    one, other = share_of(hits, everywhere), share_of(~hits, everywhere)
    alone = [resampler.interval(part) for part in (one, other)]
    mean = resampler.interval(average([one, other]))
    assert mean.value == 0.5
    assert mean.value - mean.low == pytest.approx(np.hypot(*(i.value - i.low for i in alone)) / 2)


@pytest.mark.parametrize("num", [300, 2000])
def test_a_mean_over_drawn_pairs_is_as_sure_as_it_is(num):
    """A picture is four normal numbers; the mean likeness exp(-d²/4) of two of them is 1/4."""
    rng, found = np.random.default_rng(6), []
    clusters = [str(i) for i in range(num)]
    resampler = bootstrap(clusters, replicates=1)
    for _ in range(800):
        pairs = random_pairs(clusters, MOST_PAIRS, rng)
        first, second = rng.normal(size=(num, 4))[pairs.T]
        values = np.exp(-np.square(first - second).sum(axis=1) / 4)
        interval = resampler.interval(pair_mean(pairs, values))
        found.append((interval.value, interval.low, interval.high))
    value, low, high = np.array(found).T
    assert 0.93 <= ((low <= 0.25) & (high >= 0.25)).mean() <= 0.97
    assert (high - low).mean() == pytest.approx(2 * 1.96 * value.std(), rel=0.07)


@pytest.mark.parametrize("within", [False, True])
def test_a_mean_over_pairs_keeps_patients_together(within):
    """Thirty patients of four pictures, half of whose variance is the patient's."""
    rng, found = np.random.default_rng(7), []
    clusters = [str(i // 4) for i in range(120)]
    resampler = bootstrap(clusters, replicates=1)
    for _ in range(400):
        pairs = (same_prompt_pairs if within else random_pairs)(clusters, MOST_PAIRS, rng)
        of_patient = np.repeat(rng.normal(size=(30, 4)), 4, axis=0)
        first, second = (np.sqrt(0.5) * (of_patient + rng.normal(size=(120, 4))))[pairs.T]
        values = np.exp(-np.square(first - second).sum(axis=1) / 4)
        interval = resampler.interval(pair_mean(pairs, values))
        found.append((interval.value, interval.low, interval.high))
    truth = (2 / 3) ** 2 if within else 1 / 4
    value, low, high = np.array(found).T
    assert 0.92 <= ((low <= truth) & (high >= truth)).mean() <= 0.97
    assert (high - low).mean() == pytest.approx(2 * 1.96 * value.std(), rel=0.15)


def test_the_variance_of_pairs_is_that_of_a_loop_over_pairs_that_share_a_patient():
    rng, clusters = np.random.default_rng(9), [str(i // 2) for i in range(40)]
    pairs, of_patient = random_pairs(clusters, 60, rng), np.repeat(rng.normal(size=20), 2)
    values = of_patient[pairs].sum(axis=1) + rng.normal(size=60)
    of = [{clusters[i], clusters[j]} for i, j in pairs]
    rest = (values - values.mean()) / 60
    total = sum(rest[p] * rest[q] for p in range(60) for q in range(60) if of[p] & of[q])
    expected = total * 20 * 19 / (18 * 17)  # all twenty patients are in some pair
    interval = bootstrap(clusters, replicates=1).interval(pair_mean(pairs, values))
    found = ((interval.high - interval.low) / 2 / student.ppf(0.975, 17)) ** 2
    assert found == pytest.approx(expected)
    assert len(set.union(*of)) == 20


def test_pairs_of_few_patients_have_no_interval():
    clusters = ["a", "a", "b", "c", "c", "d"]
    pairs = np.array([[0, 2], [0, 3], [1, 2], [2, 4], [0, 5]])
    for kept, patients in ((pairs[:4], "3 patients"), (pairs[[0, 2]], "2 patients"),
                           (np.array([[0, 1]]), "one patient")):  # fmt: skip
        interval = bootstrap(clusters).interval(pair_mean(kept, np.arange(len(kept)) / 5))
        assert interval.value == pytest.approx(np.arange(len(kept)).mean() / 5)
        assert interval.low is None
        assert interval.note == f"no interval: all pairs are of {patients}"
    assert bootstrap(clusters).interval(pair_mean(pairs, np.arange(5) / 5)).low is not None
    collapsed = bootstrap(clusters).interval(pair_mean(pairs, np.ones(5)))
    assert (collapsed.value, *ends(collapsed)) == (1, 1, 1)
