from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from arra_med.eval.memorisation import Pictures, Space, memorisation
from arra_med.eval.memorisation_result import matches_by_chance, memorisation_json
from arra_med.eval.pixel_features import pixel_features
from arra_med.eval.planted import MUST_FIND, planted_copies
from arra_med.eval.summary_privacy import could_recognise

SIZE, TRAIN, HELD_OUT, MADE = 64, 300, 240, 40


def draw(count, seed, per_patient=1):
    """Smooth pictures; those of one patient are alike."""
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        if index % per_patient == 0:
            body = rng.normal(size=(9, 9))
        coarse = body + 0.3 * rng.normal(size=(9, 9))
        rows = np.linspace(0, 8, SIZE)
        smooth = np.array([np.interp(rows, np.arange(9), column) for column in coarse.T]).T
        smooth = np.array([np.interp(rows, np.arange(9), row) for row in smooth])
        noise = rng.normal(size=(SIZE, SIZE))
        pictures.append(np.clip(128 + 40 * smooth + 2 * noise, 0, 255).astype(np.uint8)[..., None])
    return pictures


def random_features(pictures):
    """A second space: random convolution-like projections of the pixels."""
    weights = np.random.default_rng(77).normal(size=(SIZE * SIZE, 48)) / SIZE
    flat = np.stack([picture.ravel() / 255 - 0.5 for picture in pictures])
    return np.tanh(flat @ weights).astype(np.float32)


@pytest.fixture(scope="module")
def scene():
    """Training pictures of 100 patients, held-out ones of others, copies planted."""
    train, held_out, made = draw(TRAIN, 1, per_patient=3), draw(HELD_OUT, 2), draw(MADE, 3)
    rows = np.arange(0, TRAIN, 5)
    copies = planted_copies([train[i] for i in rows], generator=np.random.default_rng(4))
    spaces = [
        Space(
            name=name,
            metric=metric,
            train=extract(train),
            generated=extract(made),
            held_out=extract(held_out),
            planted={kind: extract(pictures) for kind, pictures in copies.items()},
        )
        for name, metric, extract in (
            ("pixels", "euclidean", pixel_features),
            ("encoder", "cosine", random_features),
        )
    ]
    pictures = Pictures(
        train_keys=[f"t{i}" for i in range(TRAIN)],
        train_patients=[f"p{i // 3}" for i in range(TRAIN)],
        held_out_patients=[f"h{i}" for i in range(HELD_OUT)],
        generated_keys=[f"g{i}" for i in range(MADE)],
        generated_patients=["p0" if i == 7 else f"q{i}" for i in range(MADE)],
        planted_rows=rows,
    )
    return spaces, pictures


def run(spaces, pictures, **options):
    return memorisation(spaces, pictures, generator=np.random.default_rng(0), **options)


def with_copies(spaces, rows):
    """The first generated pictures replaced by copies of training pictures."""
    changed = []
    for space in spaces:
        generated = space.generated.copy()
        for index, row in rows.items():
            generated[index] = space.train[row]
        changed.append(replace(space, generated=generated))
    return changed


def test_requirement_11_planted_copies_are_found(scene):
    result = run(*scene)
    found = {control.kind: control for control in result.controls}
    for kind in MUST_FIND:
        assert found[kind].found >= 0.95 * found[kind].n
        assert found[kind].traced >= 0.95 * found[kind].n
        assert found[kind].rate.value == found[kind].found / found[kind].n
    assert result.detects
    assert {"crop", "flip", "shift", "brighter"} <= set(found)
    assert found["flip"].found < found["flip"].n  # neither space knows mirrored pictures


def test_requirement_11_false_matches_stay_at_the_stated_rate(scene):
    spaces, pictures = scene
    result = run(spaces, pictures, false_match_rate=0.01)
    for space in result.spaces:
        assert space.resolved
        # half the rate a space: one of 240 held-out pictures fixes it
        assert space.threshold == np.sort(space.held_out)[0]
        assert (space.held_out <= space.threshold).mean() <= 0.005
        assert space.false_matches.low <= 0.005
    assert len(result.matches) <= 2


def test_requirement_11_a_copied_training_picture_is_named(scene):
    spaces, pictures = scene
    before = {match.key for match in run(spaces, pictures).matches}
    result = run(with_copies(spaces, {5: 33, 7: 1}), pictures)
    matches = {match.key: match for match in result.matches}
    assert set(matches) - before == {"g5", "g7"}
    assert (matches["g5"].train_key, matches["g7"].train_key) == ("t33", "t1")
    assert matches["g5"].distance == 0
    assert set(matches["g5"].spaces) == {"pixels", "encoder"}
    assert (matches["g5"].own_patient, matches["g7"].own_patient) == (False, True)
    exact = binomtest(len(matches), MADE).proportion_ci(method="exact")
    assert (result.share.low, result.share.high) == pytest.approx((exact.low, exact.high))
    assert result.share.value == len(matches) / MADE


def test_distances_equal_loops_and_pass_over_the_own_patient(scene):
    spaces, pictures = scene
    patients = [*pictures.held_out_patients[:-1], "p4"]  # one held-out patient was trained on
    space = run(spaces, replace(pictures, held_out_patients=patients)).spaces[0]
    pixels = spaces[0]
    train, owners = pixels.train.astype(np.float64), np.array(pictures.train_patients)

    def distance(vector, rows):
        return np.linalg.norm(train[rows] - vector, axis=1).min()

    everyone = np.arange(TRAIN)
    for index in (0, 11):
        assert space.generated[index] == pytest.approx(distance(pixels.generated[index], everyone))
    last = pixels.held_out[-1].astype(np.float64)
    assert space.held_out[-1] == pytest.approx(distance(last, np.flatnonzero(owners != "p4")))
    for index in (0, 5):  # the sample is the whole training set, in order
        others = np.flatnonzero(owners != owners[index])
        same = np.flatnonzero((owners == owners[index]) & (everyone != index))
        assert space.train[index] == pytest.approx(distance(train[index], others))
        assert space.same_patient[index] == pytest.approx(distance(train[index], same))
    assert np.median(space.same_patient) < np.median(space.train)


def test_requirement_11_too_few_real_pictures_are_said_to_be_too_few(scene):
    spaces, pictures = scene
    few = [replace(space, held_out=space.held_out[:30]) for space in spaces]
    result = run(few, replace(pictures, held_out_patients=pictures.held_out_patients[:30]))
    for space in result.spaces:
        assert not space.resolved
        assert space.threshold < space.held_out.min()
    assert result.n_held_out == 30


def answer_on_noise(seed, held_out, made, copied=0, per_prompt=1):
    """What is said of ``made`` pictures in three spaces that know nothing of one another.

    Those of one prompt are alike.
    """
    rng = np.random.default_rng(seed)

    def draw_features(count):
        return rng.standard_normal((count, 6)).astype(np.float32)

    spaces = []
    for name in "abc":
        train = draw_features(400)
        generated = np.repeat(draw_features(made // per_prompt), per_prompt, axis=0)
        generated += 0.01 * draw_features(made) if per_prompt > 1 else 0
        generated[:copied] = train[:copied]
        planted = dict.fromkeys(MUST_FIND, train[:20])
        spaces.append(
            Space(name=name, metric="euclidean", train=train, generated=generated,
                  held_out=draw_features(held_out), planted=planted)
        )  # fmt: skip
    pictures = Pictures(
        train_keys=[f"t{i}" for i in range(400)],
        train_patients=[f"t{i}" for i in range(400)],
        held_out_patients=[f"h{i}" for i in range(held_out)],
        generated_keys=[f"g{i}" for i in range(made)],
        generated_patients=[f"g{i // per_prompt}" for i in range(made)],
        planted_rows=np.arange(20),
    )
    result = memorisation(spaces, pictures, generator=rng)
    keys = list(pictures.generated_keys)
    return could_recognise(
        {"memorisation": memorisation_json(result, indices=[0] * made, keys=keys)}
    )


@pytest.mark.parametrize(("held_out", "made"), [(5, 50), (20, 200), (50, 400), (200, 1000)])
def test_who_copies_nothing_is_not_accused(held_out, made):
    """However few held-out pictures fix the thresholds, and though every space adds matches."""
    verdicts = [answer_on_noise(seed, held_out, made).verdict for seed in range(20)]
    assert any(verdict.startswith("Suspects") for verdict in verdicts)
    assert not any(verdict.startswith("Yes") for verdict in verdicts)


def test_alike_pictures_of_a_prompt_are_no_false_alarm():
    """50 prompts of 20 pictures: an interval of 1,000 independent ones accused one run in five."""
    verdicts = [answer_on_noise(seed, 3000, 1000, per_prompt=20).verdict for seed in range(60)]
    assert any(verdict.startswith("Suspects") for verdict in verdicts)
    assert sum(verdict.startswith("Yes") for verdict in verdicts) <= 3


@pytest.mark.parametrize(("held_out", "made", "copied"), [(20, 200, 150), (200, 1000, 120)])
def test_who_copies_more_than_chance_explains_is_accused(held_out, made, copied):
    for seed in range(5):
        assert answer_on_noise(seed, held_out, made, copied).verdict.startswith("Yes")


@pytest.mark.parametrize(("rate", "num_spaces", "held_out"), [(0.01, 3, 20), (0.01, 2, 1500)])
def test_what_chance_brings_equals_simulated_thresholds(rate, num_spaces, held_out):
    """Distances that are uniform: what a threshold lets through is the threshold itself."""
    rank = max(1, int(rate / num_spaces * (held_out + 1)))
    draws = np.random.default_rng(0).random((8000, held_out))
    let_through = np.partition(draws, rank - 1, axis=1)[:, rank - 1]
    chance = matches_by_chance(rate, num_spaces, held_out)
    assert chance.most_of_one == pytest.approx(np.quantile(let_through, 0.975), rel=0.05)
    assert chance.expected == pytest.approx(num_spaces * let_through.mean(), rel=0.1)
    assert chance.most == pytest.approx(num_spaces * chance.most_of_one)


def test_three_held_out_pictures_exclude_nothing():
    chance = matches_by_chance(0.01, 5, 3)
    assert (chance.expected, chance.most) == (1.0, 1.0)
    assert chance.most_of_one == pytest.approx(1 - 0.025 ** (1 / 3))  # P(min of 3 > x) = (1-x)^3


def test_a_test_that_finds_no_copies_says_so(scene):
    """Features that are noise: nothing that they say about copies may be believed."""
    spaces, pictures = scene
    rng = np.random.default_rng(5)
    planted = {kind: rng.normal(size=v.shape) for kind, v in spaces[0].planted.items()}
    assert not run([replace(spaces[0], planted=planted)], pictures).detects
    assert not run([replace(spaces[0], planted={})], replace(
        pictures, planted_rows=np.zeros(0, dtype=np.int64)
    )).detects  # fmt: skip


def test_requirement_13_two_runs_are_equal(scene):
    first, second = run(*scene, train_sample=50), run(*scene, train_sample=50)
    assert first.matches == second.matches
    assert first.controls == second.controls
    for a, b in zip(first.spaces, second.spaces, strict=True):
        np.testing.assert_array_equal(a.train, b.train)
        np.testing.assert_array_equal(a.generated, b.generated)


def test_what_does_not_fit_together_is_refused(scene):
    spaces, pictures = scene
    with pytest.raises(ValueError, match="0 spaces"):
        run([], pictures)
    with pytest.raises(ValueError, match="pixels: 300 train vectors for 299 pictures"):
        run(spaces, replace(pictures, train_keys=pictures.train_keys[:-1]))
    with pytest.raises(ValueError, match="planted \\(exact\\) vectors for 59"):
        run(spaces, replace(pictures, planted_rows=pictures.planted_rows[:-1]))
    with pytest.raises(ValueError, match="same kinds"):
        run([spaces[0], replace(spaces[1], planted={})], pictures)
    with pytest.raises(ValueError, match="the only one of the training set"):
        run(spaces, replace(
            pictures, train_patients=["a"] * TRAIN, held_out_patients=["a"] * HELD_OUT
        ))  # fmt: skip
