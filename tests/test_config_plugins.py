"""Lists of plug-ins in a configuration."""

from dataclasses import dataclass

import pytest

from arra_med.config import PluginConfig, build, dump, plugins_field
from arra_med.errors import RequestError
from arra_med.registry import JUDGES


@dataclass(frozen=True, kw_only=True)
class Section:
    judges: tuple[PluginConfig, ...] = plugins_field(JUDGES)


def test_a_list_of_plug_ins_is_read_and_written_back():
    tree = {"judges": [{"name": "cnn", "weights": "a"}, {"name": "cnn", "weights": "b"}]}
    section = build(Section, tree, where="test")
    assert [str(judge.options.weights) for judge in section.judges] == ["a", "b"]
    assert "- name: cnn" in dump(section)
    assert build(Section, {}, where="test").judges == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "cnn"}, "judges: expected a list of judges"),
        ([{"name": "cnn", "weights": "a"}, {"name": "cnm"}], r"judges\[1\].name: .*did you mean"),
        ([{"name": "cnn", "weight": "a"}], r"judges\[0\].weight: unknown key"),
    ],
)
def test_a_wrong_list_says_where(value, message):
    with pytest.raises(RequestError, match=message):
        build(Section, {"judges": value}, where="test")
