"""Two networks of one plug-in are told apart, from the first table to the comparison."""

from dataclasses import replace

import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.judge_cnn import CnnExtractor, CnnJudge
from arra_med.eval.networks import name_apart
from arra_med.settings.results import OtherPictures
from tests.eval.little import QUICK, generation_rows, pictures_for, read, write_generated

CPU = torch.device("cpu")


@pytest.fixture
def two(base, little, tmp_path):
    """Options of two networks that their plug-in calls ``cnn-32``."""
    first = CnnOptions(weights=base / "judge", **QUICK)
    second = replace(first, weights=tmp_path / "second", seed=first.seed + 1)
    CnnJudge.fit(second, little, CPU)
    return first, second


def test_only_networks_that_differ_get_other_names(two):
    first, second = two
    one = {"plugin": "cnn", **CnnJudge.identity(first)}
    judge, extractor = CnnJudge(first), CnnExtractor(first)
    name_apart([(judge, one), (extractor, one | {"fitted_splits": ["train"], "shared": {}})])
    assert judge.info.name == extractor.info.name == "cnn-32"
    other = CnnJudge(second)
    name_apart([(judge, one), (extractor, one), (other, CnnJudge.identity(second))])
    assert judge.info.name == extractor.info.name != other.info.name
    assert all(network.info.name.startswith("cnn-32#") for network in (judge, other))


def test_two_judges_and_extractors_of_one_plug_in_are_both_compared(two, little, run, tmp_path):
    """The first has the teacher's weights: only that one is shown and not tested."""
    first = two[0]
    rows = generation_rows(little)
    teacher = {"name": "another", "weights_sha256": CnnJudge.identity(first)["weights_sha256"]}
    for folder, model in (("generated", {"teacher": teacher}), ("peer", {"teacher": None})):
        write_generated(
            tmp_path / folder, rows, pictures_for(little, rows, seed=len(folder)), model=model
        )
    plugins = tuple(PluginConfig(name="cnn", options=options) for options in two)
    results = read(
        run(
            judges=plugins,
            extractors=plugins,
            others=(OtherPictures(name="peer", folder=tmp_path / "peer"),),
        )
    )
    names = [judge["name"] for judge in results["judges"]]
    assert len(set(names)) == 2
    assert [row["extractor"] for row in results["fidelity"]] == names
    comparison = results["comparison"]
    for measure in ("auroc", "kid"):
        rows = {r["subject"]: r for r in comparison["measures"] if r["measure"] == measure}
        assert set(names) <= rows.keys()
        assert "aligned to" in rows[names[0]]["subject_note"]
        assert "subject_note" not in rows[names[1]]
        tested = {r["subject"] for r in comparison["differences"] if r["measure"] == measure}
        assert names[1] in tested
        assert names[0] not in tested
