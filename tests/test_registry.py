"""Plug-ins by name."""

import pytest

from arra_med.errors import RequestError
from arra_med.registry import REGISTRIES, Registry


def registry(**builtin: str) -> Registry:
    return Registry("thing", base="collections:OrderedDict", builtin=builtin, group="none.of.ours")


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(
        RequestError, match=r"no thing is called 'aple'; did you mean 'apple'\? Known"
    ):
        registry(apple="a:b", pear="c:d").get("aple")


def test_two_targets_for_one_name_are_refused() -> None:
    things = registry(apple="a:b")
    things.register("apple", "a:b")
    with pytest.raises(ValueError, match="two things are called 'apple': a:b and c:d"):
        things.register("apple", "c:d")


def test_a_plug_in_of_another_base_is_refused() -> None:
    with pytest.raises(TypeError, match="does not derive from collections:OrderedDict"):
        registry(apple="builtins:dict").get("apple")


def test_a_plug_in_that_cannot_be_imported_says_so() -> None:
    with pytest.raises(RequestError, match="cannot import thing 'apple' from no_such_module:X"):
        registry(apple="no_such_module:X").get("apple")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, r in REGISTRIES.items() for name in r.names()]
)
def test_every_built_in_plug_in_imports_and_declares_options(kind: str, name: str) -> None:
    plugin = REGISTRIES[kind].get(name)
    parameters = plugin.Options.__dataclass_params__
    assert parameters.frozen
    assert plugin.__doc__
