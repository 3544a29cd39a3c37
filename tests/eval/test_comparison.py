"""Several generators on simulated features and verdicts: who is better is known beforehand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from sklearn.metrics import roc_auc_score

from arra_med.eval.comparison import compare
from arra_med.eval.comparison_rows import Measured, Shared
from arra_med.eval.multiplicity import holm
from arra_med.eval.results_schema import results_schema

N, D = 120, 8
FINDINGS = ("Edema", "Pleural Effusion")
KEYS = [f"p{i // 2:03d}/s{i:03d}" for i in range(N)]  # two prompts a patient


def verdicts(labels, rng, skill=1.0):
    """Probabilities that follow the labels, more surely the larger ``skill``."""
    found = {}
    for finding in FINDINGS:
        asked = np.array([labels[key][finding] for key in KEYS])
        found[finding] = 1 / (1 + np.exp(-skill * (2 * asked - 1) - rng.normal(size=N)))
    return {"judge": found}


def of_real(labels, skill=2.5):
    """The judge on the real pictures of the prompts."""
    return Measured(
        name="real images", kind="real", model=None, keys=KEYS, indices=[0] * N,
        probabilities=verdicts(labels, np.random.default_rng(99), skill),
    )  # fmt: skip


def shared(rng, **changes):
    labels = {key: {name: int(rng.random() < 0.5) for name in FINDINGS} for key in KEYS}
    values = {
        "patients": {key: key.split("/")[0] for key in KEYS},
        "labels": labels,
        "thresholds": {"judge": dict.fromkeys(FINDINGS, 0.5)},
        "real": {"encoder": rng.normal(size=(N, D))},
        "real_patients": [key.split("/")[0] for key in KEYS],
        "ceiling": of_real(labels),
        "min_positives": 5,
    }
    return Shared(**(values | changes))


def generator(name, common, rng, *, skill=1.0, shift=0.0, spread=1.0, **changes):
    """Verdicts that follow the labels with ``skill``; features of a shifted normal."""
    probabilities = verdicts(common.labels, rng, skill)
    values = {
        "name": name,
        "kind": "run",
        "model": {"name": name},
        "keys": KEYS,
        "indices": [0] * N,
        "features": {"encoder": spread * rng.normal(size=(N, D)) + shift},
        "probabilities": probabilities,
        "text": {"clip": rng.normal(0.3 + 0.1 * skill, 0.1, N)},
        "paired": rng.uniform(0.2, 0.4, N),
    }
    return Measured(**(values | changes))


def compared(generators, common, seed=0, bootstrap=200):
    return compare(
        generators, common, bootstrap=bootstrap, generator=np.random.default_rng(seed)
    )  # fmt: skip


def value(section, measure, name, subject=None):
    (row,) = [
        row
        for row in section["measures"]
        if row["measure"] == measure and (subject is None or row["subject"] == subject)
    ]
    return next(one["value"] for one in row["values"] if one["generator"] == name)


def gap(section, measure, subject=None):
    (row,) = [
        row
        for row in section["differences"]
        if row["measure"] == measure and (subject is None or row["subject"] == subject)
    ]
    return row


def test_the_section_has_the_form_of_the_results_file():
    rng = np.random.default_rng(0)
    common = shared(rng)
    three = [generator(name, common, rng) for name in ("ours", "ablation", "peer")]
    section = compared(three, common)
    schema = results_schema()
    form = {**schema["properties"]["comparison"], "$defs": schema["$defs"]}
    Draft202012Validator(form).validate(json.loads(json.dumps(section, allow_nan=False)))
    measures = [(row["measure"], row["subject"], row["aim"]) for row in section["measures"]]
    assert measures == [
        ("auroc", "judge", "higher"),
        ("auroc", "Edema", "higher"),
        ("auroc", "Pleural Effusion", "higher"),
        ("missed_per_100", "judge", "lower"),
        ("invented_per_100", "judge", "lower"),
        ("text_alignment", "clip", "higher"),
        ("paired", "MS-SSIM", "higher"),
        ("kid", "encoder", "lower"),
        ("precision", "encoder", "higher"),
        ("density", "encoder", None),
        ("recall", "encoder", "higher"),
        ("coverage", "encoder", "higher"),
    ]
    assert len(section["differences"]) == 3 * len(measures)
    assert section["adjustment"] == f"Holm over {3 * len(measures)} comparisons"
    found = [row["p"] for row in section["differences"]]
    assert [row["p_adjusted"] for row in section["differences"]] == holm(found)
    for row in section["differences"]:
        first, second = (
            value(section, row["measure"], row[name], row["subject"])
            for name in ("first", "second")
        )
        expected = first["value"] - second["value"]
        assert row["difference"]["value"] == pytest.approx(expected, abs=1e-9)


def test_values_are_those_of_independent_implementations():
    rng = np.random.default_rng(1)
    common = shared(rng)
    two = [generator("a", common, rng), generator("b", common, rng, skill=2)]
    section = compared(two, common)
    expected, missed, asked = [], 0, 0
    for finding in FINDINGS:
        labels = np.array([common.labels[key][finding] for key in KEYS])
        scores = two[0].probabilities["judge"][finding]
        expected.append(roc_auc_score(labels, scores))
        missed += int((scores[labels == 1] < 0.5).sum())
        asked += int((labels == 1).sum())
        found = value(section, "auroc", "a", finding)["value"]
        assert found == pytest.approx(expected[-1], abs=1e-12)
    assert value(section, "auroc", "a", "judge")["value"] == pytest.approx(np.mean(expected))
    assert value(section, "missed_per_100", "a")["value"] == pytest.approx(100 * missed / asked)


def test_equal_generators_do_not_differ():
    """Independent draws of one distribution: few small p values, next to none after correction."""
    raw: dict[str, list[float]] = {}
    families = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        common = shared(rng)
        section = compared([generator("a", common, rng), generator("b", common, rng)], common, seed)
        for row in section["differences"]:
            raw.setdefault(row["measure"], []).append(row["p"])
        families += any(row["p_adjusted"] < 0.05 for row in section["differences"])
    assert families <= 4
    small = {measure: np.mean(np.array(found) < 0.05) for measure, found in raw.items()}
    assert max(small.values()) <= 0.17, small
    assert np.mean(np.concatenate(list(raw.values())) < 0.05) <= 0.08, small


def test_a_collapsed_generator_loses_recall_and_keeps_precision():
    rng = np.random.default_rng(2)
    common = shared(rng)
    one_picture = np.tile(common.real["encoder"][:1], (N, 1)) + 1e-3 * rng.normal(size=(N, D))
    section = compared(
        [
            generator("varied", common, rng),
            generator("collapsed", common, rng, features={"encoder": one_picture}),
        ],
        common,
    )
    for measure in ("recall", "coverage"):
        row = gap(section, measure)
        assert row["difference"]["low"] > 0.3
        assert row["p_adjusted"] < 0.001
    assert value(section, "recall", "collapsed")["value"] < 0.05
    assert value(section, "precision", "collapsed")["value"] == 1
    assert gap(section, "kid")["difference"]["high"] < 0
    assert gap(section, "auroc", "judge")["p_adjusted"] > 0.05


def test_the_better_generator_wins_where_it_is_better():
    rng = np.random.default_rng(3)
    common = shared(rng)
    good = generator("good", common, rng, skill=2.5)
    poor = generator("poor", common, rng, skill=0.3, shift=1.2)
    section = compared([good, poor], common)
    for measure, subject, sign in (
        ("auroc", "judge", 1), ("auroc", "Edema", 1), ("missed_per_100", None, -1),
        ("invented_per_100", None, -1), ("text_alignment", None, 1), ("kid", None, -1),
        ("precision", None, 1), ("coverage", None, 1),
    ):  # fmt: skip
        row = gap(section, measure, subject)
        assert row["p_adjusted"] < 0.05, measure
        ends = (row["difference"]["low"], row["difference"]["high"])
        assert min(np.multiply(ends, sign)) > 0, measure
    assert gap(section, "paired")["p_adjusted"] > 0.05


def test_only_pictures_that_all_have_are_compared():
    """One drew fewer prompts, another two pictures of each; the order does not matter."""
    rng = np.random.default_rng(4)
    common = shared(rng)
    a = generator("a", common, rng)
    few = np.sort(rng.permutation(N)[:90])[::-1]
    b = generator("b", common, rng).aligned([(KEYS[i], 0) for i in few])
    c = generator("c", common, rng)
    twice = replace(
        c,
        keys=[*c.keys, *c.keys],
        indices=[0] * N + [1] * N,
        features={"encoder": np.tile(c.features["encoder"], (2, 1))},
        probabilities={"judge": {f: np.tile(p, 2) for f, p in c.probabilities["judge"].items()}},
        text={}, paired=None,
    )  # fmt: skip
    section = compared([a, b, twice], common)
    assert [row["n"] for row in section["generators"]] == [90, 90, 90]
    assert "90 pictures of 90 prompts" in section["generators_note"]
    labels = np.array([common.labels[KEYS[i]]["Edema"] for i in few])
    scores = a.probabilities["judge"]["Edema"][few]
    found = value(section, "auroc", "a", "Edema")["value"]
    assert found == pytest.approx(roc_auc_score(labels, scores))
    pairs = {(r["first"], r["second"]) for r in section["differences"] if r["measure"] == "paired"}
    assert pairs == {("a", "b")}
    assert value(section, "paired", "c") is None
    (row,) = [row for row in section["measures"] if row["measure"] == "paired"]
    assert row["values"][2]["value_note"].startswith("not measured")


def test_pairing_makes_small_differences_visible():
    """Pictures of the same prompts share what makes prompts hard."""
    rng = np.random.default_rng(5)
    common = shared(rng)
    a = generator("a", common, rng)
    near = {f: p - 0.02 for f, p in a.probabilities["judge"].items()}
    b = replace(a, name="b", text={"clip": a.text["clip"] - 0.02 + 0.01 * rng.normal(size=N)},
                probabilities={"judge": near})  # fmt: skip
    section = compared([a, b], common)
    alone = value(section, "text_alignment", "a")
    assert gap(section, "text_alignment")["p_adjusted"] < 0.001
    row = gap(section, "text_alignment")["difference"]
    assert row["high"] - row["low"] < (alone["high"] - alone["low"]) / 3
    assert gap(section, "auroc", "judge")["difference"]["value"] == pytest.approx(0, abs=1e-12)
    assert gap(section, "kid")["p"] == 1


def test_a_network_that_is_not_independent_is_shown_and_not_tested():
    rng = np.random.default_rng(6)
    common = shared(rng, against={"judge": "'judge' is the teacher the run was aligned to"})
    section = compared([generator("a", common, rng), generator("b", common, rng)], common)
    assert not any(row["measure"] == "auroc" for row in section["differences"])
    assert any(row["measure"] == "kid" for row in section["differences"])
    rows = [row for row in section["measures"] if row["measure"] == "auroc"]
    assert all("aligned to" in row["subject_note"] for row in rows)
    assert rows[0]["values"][0]["value"]["value"] > 0.5


def test_what_cannot_be_measured_says_so():
    rng = np.random.default_rng(7)
    cuts = {"judge": {"Edema": None, "Pleural Effusion": None}}
    common = shared(rng, thresholds=cuts, min_positives=1)
    tiny = [generator(name, common, rng).aligned([(k, 0) for k in KEYS[:8]]) for name in "ab"]
    section = compared(tiny, common)
    assert value(section, "recall", "a") is None
    assert value(section, "missed_per_100", "a") is None
    assert value(section, "kid", "a")["value"] is not None
    json.dumps(section, allow_nan=False)


def test_two_runs_give_the_same_numbers():
    rng = np.random.default_rng(8)
    common = shared(rng)
    two = [generator("a", common, rng), generator("b", common, rng)]
    assert json.dumps(compared(two, common, 3)) == json.dumps(compared(two, common, 3))


def test_wrong_requests_are_refused():
    rng = np.random.default_rng(9)
    common = shared(rng)
    a = generator("a", common, rng)
    with pytest.raises(ValueError, match="different names, got \\['a', 'a'\\]"):
        compared([a, a], common)
    with pytest.raises(ValueError, match="two generators or more"):
        compared([a], common)
    other = generator("b", common, rng, indices=[1] * N)
    with pytest.raises(ValueError, match="no prompt was drawn by all of a, b"):
        compared([a, other], common)


def test_a_generator_that_hands_out_training_pictures_is_shown_and_not_tested():
    rng = np.random.default_rng(6)
    common = shared(rng, copiers=frozenset({"copycat"}))
    three = [generator(name, common, rng) for name in ("ours", "copycat", "peer")]
    section = compared(three, common)
    assert {(row["first"], row["second"]) for row in section["differences"]} == {("ours", "peer")}
    assert value(section, "kid", "copycat") is not None
