"""Strict YAML: one file a run, read into frozen keyword-only dataclasses.

An unknown key is an error with the nearest name; a wrong type names what was expected; every
error of a file is reported at once, before anything is loaded. ``a.b=value`` overrides on the
command line follow the same rules; in a value ``{output}`` stands for ``paths.output`` and
``{prepared}`` for ``paths.prepared``, given or default. A file may begin with ``include:
other.yaml`` (a path from its own folder) and is then laid over that one. A ``null``, there or on
the command line, takes back what was given, with all that is in it; where a field cannot be
``None`` it is an error. A field of type :class:`PluginConfig` holds ``name:`` and the plug-in's own
options, which are checked against the plug-in's ``Options`` dataclass.
"""

import dataclasses
import json
import math
import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast

import yaml

from arra_med.errors import RequestError, did_you_mean
from arra_med.registry import Registry
from arra_med.yaml_files import problem, read_yaml

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PluginConfig:
    """A plug-in's name and its options; in YAML one mapping: ``{name: linear, dimension: 64}``."""

    name: str
    options: Any  # an instance of the plug-in's Options dataclass


_ENDS = (yaml.BlockEndToken, yaml.StreamEndToken)  # they may lie behind a comment
_SUFFIXES = (".yaml", ".yml")
_DATA = (".csv", ".tsv", ".parquet", ".gz", ".xlsx", ".dcm", ".png", ".jpg")
_PLACEHOLDERS = {"output": None, "prepared": "{output}/prepared"}
"""Entries of ``paths`` that any text may contain in braces, and their defaults."""


def plugin_field(registry: Registry, *, optional: bool = False) -> Any:  # noqa: ANN401 - a default
    """Declare a dataclass field of type :class:`PluginConfig` backed by ``registry``.

    An optional one is of type ``PluginConfig | None`` and defaults to ``None``.
    """
    metadata = {"registry": registry}
    if optional:
        return dataclasses.field(default=None, metadata=metadata)
    return dataclasses.field(metadata=metadata)


def plugins_field(registry: Registry) -> Any:  # noqa: ANN401 - a default
    """Declare a dataclass field of type ``tuple[PluginConfig, ...]``: a list, empty by default."""
    return dataclasses.field(default=(), metadata={"registry": registry, "several": True})


def load(kind: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Read ``path`` and what it includes, apply ``a.b=value`` overrides and build a ``kind``.

    Raises:
        FileNotFoundError: if there is no such file.
        RequestError: naming every unknown key, missing key and wrong value at once.
    """
    tree = _read(path)
    for override in overrides:
        _apply(tree, override)
    for name, default in _PLACEHOLDERS.items():
        paths = tree.get("paths")
        if not isinstance(paths, dict):
            break
        text = paths.get(name)
        if text is None and default is not None and isinstance(paths.get("output"), str):
            text = default.format(output=paths["output"])
        if isinstance(text, str):
            inside = [f"{{{one}}}" for one in _PLACEHOLDERS if f"{{{one}}}" in text]
            if inside:
                raise RequestError(
                    f"paths.{name} is {text!r}: {inside[0]} cannot stand in it, as it would be "
                    "made from itself; write the folder out"
                )
            tree = _substitute(tree, f"{{{name}}}", text)
    return build(kind, tree, where=str(path))


def build(kind: type[T], tree: Mapping[str, Any], *, where: str) -> T:
    """Build a ``kind`` from nested mappings; ``where`` names their origin in messages.

    Raises:
        RequestError: naming every unknown key, missing key and wrong value at once.
    """
    errors: list[str] = []
    value = _dataclass(kind, tree, "", errors)
    if errors:
        raise RequestError(
            f"{where} has {len(errors)} error{'s' if len(errors) > 1 else ''}:\n"
            + "\n".join(f"  - {error}" for error in errors)
        )
    return cast("T", value)


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's mapping over that of the file it includes; ``above`` are the files including it."""
    if not path.is_file():
        by = f", which {above[-1]} includes" if above else ""
        raise FileNotFoundError(f"no configuration file at {path}{by}{_instead(path)}")
    if path.suffix.lower() in _DATA:
        raise RequestError(f"{path} is no configuration: that is a YAML file (.yaml)")
    tree = read_yaml(path)
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):  # what it holds may be a report: the text is not shown
        kind = "a list" if isinstance(tree, list) else "text or a number"
        raise RequestError(f"{path}: expected a mapping at the top (key: value), found {kind}")
    if "include" not in tree:
        return tree
    included = tree.pop("include")
    if not isinstance(included, str):
        raise RequestError(f"{path}: include: expected one file's path, found {_name(included)}")
    above = (*above, path)
    below = path.parent / Path(included).expanduser()
    if below.resolve() in [file.resolve() for file in above]:
        raise RequestError(f"{path}: include: {included} includes this file itself")
    return _laid_over(_read(below, above), tree)


def _instead(path: Path) -> str:
    """What may have been meant by ``path``, which is no file."""
    if path.is_dir():
        held = ", ".join(sorted(file.name for file in path.iterdir() if file.suffix in _SUFFIXES))
        return f": it is a folder, which holds {held or 'none'}"
    if path.suffix not in _SUFFIXES:
        return ": expected a YAML file; a model is named in it, as backbone.pretrained"
    beside = [file.name for file in path.parent.glob("*") if file.suffix in _SUFFIXES]
    return did_you_mean(path.name, beside)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two mappings as one: sections are joined key by key, all else is ``above``'s.

    A section that names another plug-in replaces the whole: the other's options are not its own.
    """
    joined = dict(below)
    for key, value in above.items():
        old = joined.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            value = _laid_over(old, value)
        joined[key] = value
    return joined


def to_tree(value: Any, *, compared: bool = False) -> Any:  # noqa: ANN401 - mirrors YAML's types
    """The inverse of :func:`build`: nested mappings of plain YAML values.

    With ``compared``, without fields declared ``compare=False``: those on which no result depends.
    """

    def inner(item: Any) -> Any:  # noqa: ANN401
        return to_tree(item, compared=compared)

    if isinstance(value, PluginConfig):
        return {"name": value.name, **inner(value.options)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if f.compare or not compared]
        return {f.name: inner(getattr(value, f.name)) for f in fields}
    if isinstance(value, Mapping):
        return {str(key): inner(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [inner(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def dump(value: Any) -> str:  # noqa: ANN401
    """YAML text of a configuration, fit for :func:`load`."""
    return yaml.safe_dump(to_tree(value), sort_keys=False, allow_unicode=True)


def _substitute(node: Any, placeholder: str, text: str) -> Any:  # noqa: ANN401
    if isinstance(node, dict):
        return {key: _substitute(item, placeholder, text) for key, item in node.items()}
    if isinstance(node, list):
        return [_substitute(item, placeholder, text) for item in node]
    return node.replace(placeholder, text) if isinstance(node, str) else node


def _apply(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise RequestError(f"override {override!r} is not of the form key=value")
    *parents, leaf = name.split(".")
    node = tree
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise RequestError(f"override {override!r}: {parent!r} is a value, not a section")
    try:
        node[leaf] = yaml.safe_load(text)
        tokens = [token for token in yaml.scan(text) if not isinstance(token, _ENDS)]
    except (yaml.YAMLError, ValueError) as error:
        quoted = shlex.quote(f"{name}={json.dumps(text, ensure_ascii=False)}")
        raise RequestError(
            f"override {override!r}: the value is not YAML: {problem(error)}; if it is text, put "
            f"it in quotes, within those of the shell: {quoted}"
        ) from error
    if text[max(token.end_mark.index for token in tokens) :].strip():
        raise RequestError(
            f"override {override!r}: YAML takes what follows ' #' for a comment: put the value in "
            "quotes, within those of the shell"
        )


def _dataclass(kind: Any, tree: Any, path: str, errors: list[str], of: str = "") -> Any:  # noqa: ANN401
    if not isinstance(tree, Mapping):
        errors.append(f"{path or 'the file'}: expected a section, found {_name(tree)}")
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in tree:
        if key not in fields:
            hint = did_you_mean(str(key), fields) or f"; known: {', '.join(fields)}"
            errors.append(f"{_join(path, str(key))}: unknown key{of}{hint}")
    values: dict[str, Any] = {}
    before = len(errors)
    for name, field in fields.items():
        at = _join(path, name)
        if name in tree:
            registry = field.metadata.get("registry")
            if tree[name] is None and hints[name] is not Any:
                values[name] = None
                if type(None) not in typing.get_args(hints[name]):
                    errors.append(f"{at}: cannot be null: {_instead_of_null(hints[name], field)}")
            elif registry is None:
                values[name] = _value(hints[name], tree[name], at, errors)
            elif "several" in field.metadata:
                values[name] = _plugins(registry, tree[name], at, errors)
            else:
                values[name] = _plugin(registry, tree[name], at, errors)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            errors.append(f"{at}: missing")
    if len(errors) > before:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        errors.append(f"{path}: {error}" if path else str(error))
        return None


def _instead_of_null(hint: Any, field: dataclasses.Field[Any]) -> str:  # noqa: ANN401
    """What to give for a field that null does not take back."""
    registry, origin = field.metadata.get("registry"), typing.get_origin(hint)
    if registry is not None and origin is None:
        return f"give 'name: <{registry.kind}>' and its options"
    if dataclasses.is_dataclass(hint):
        return f"set its keys, {', '.join(one.name for one in dataclasses.fields(hint))}"
    if origin is tuple and typing.get_args(hint)[-1] is Ellipsis:
        return "[] is an empty list"
    if origin in (dict, Mapping):
        return "{} is an empty mapping"
    default = "" if field.default is dataclasses.MISSING else f"; the default is {field.default!r}"
    return f"give a value{default}"


def _plugins(registry: Registry, tree: Any, path: str, errors: list[str]) -> Any:  # noqa: ANN401
    if not isinstance(tree, (list, tuple)):
        errors.append(f"{path}: expected a list of {registry.kind}s, found {_name(tree)}")
        return None
    return tuple(_plugin(registry, item, f"{path}[{i}]", errors) for i, item in enumerate(tree))


def _plugin(registry: Registry, tree: Any, path: str, errors: list[str]) -> Any:  # noqa: ANN401
    if not isinstance(tree, Mapping) or not isinstance(tree.get("name"), str):
        errors.append(f"{path}: expected 'name: <{registry.kind}>' and its options")
        return None
    try:
        plugin = registry.get(tree["name"])
    except RequestError as error:
        errors.append(f"{path}.name: {error}")
        return None
    rest = {key: value for key, value in tree.items() if key != "name"}
    options = _dataclass(plugin.Options, rest, path, errors, f" of {tree['name']!r}")
    return None if options is None else PluginConfig(name=tree["name"], options=options)


def _value(hint: Any, value: Any, path: str, errors: list[str]) -> Any:  # noqa: ANN401
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        choices = [choice for choice in arguments if choice is not type(None)]
        attempts: list[list[str]] = []
        for choice in choices:
            attempt: list[str] = []
            result = _value(choice, value, path, attempt)
            if not attempt:
                return result
            attempts.append(attempt)
        errors += sorted(attempts, key=len)[0]
        return None
    if origin is Literal:
        if value in arguments:
            return value
        nearest = did_you_mean(str(value), map(str, arguments))
        errors.append(f"{path}: {value!r} is not one of {', '.join(map(repr, arguments))}{nearest}")
        return None
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, path, errors)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            errors.append(f"{path}: expected {_a_list(arguments, value)}, found {_name(value)}")
            return None
        if arguments[-1] is Ellipsis:
            item_hints = [arguments[0]] * len(value)
        else:
            item_hints = list(arguments)
            if len(value) != len(item_hints):
                errors.append(f"{path}: expected {len(item_hints)} values, found {len(value)}")
                return None
        pairs = zip(item_hints, value, strict=True)
        return tuple(_value(h, v, f"{path}[{i}]", errors) for i, (h, v) in enumerate(pairs))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            errors.append(f"{path}: expected a mapping, found {_name(value)}")
            return None
        taken_back = type(None) not in typing.get_args(arguments[1]) and arguments[1] is not Any
        return {
            _value(arguments[0], k, path, errors): _value(arguments[1], v, f"{path}.{k}", errors)
            for k, v in value.items()
            if not (v is None and taken_back)
        }
    return _scalar(hint, value, path, errors)


def _scalar(hint: Any, value: Any, path: str, errors: list[str]) -> Any:  # noqa: ANN401
    if hint is Any:
        return value
    if hint is Path:
        if isinstance(value, (str, Path)) and str(value):
            return Path(value).expanduser()
    elif hint is float:
        number = _number(value)
        if number is not None and math.isfinite(number):
            return number
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, hint):
        return value
    errors.append(f"{path}: expected {_expected(hint)}, found {value!r}")
    return None


def _a_list(hints: tuple[Any, ...], value: Any) -> str:  # noqa: ANN401
    """What a list is to be; an example is made of ``value`` if that could stand in it."""
    length = 1 if hints[-1] is Ellipsis else len(hints)
    wrong: list[str] = []
    if isinstance(value, (str, int, float)):
        _value(hints[0], value, "", wrong)
        if not wrong:
            return f"a list such as [{', '.join([str(value)] * length)}]"
    return "a list" if hints[-1] is Ellipsis else f"a list of {length} values"


def _number(value: Any) -> float | None:  # noqa: ANN401
    """A float from YAML; ``1e-5`` without a dot is a string to YAML 1.1 and a number to people."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _expected(hint: Any) -> str:  # noqa: ANN401
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return "a path" if hint is Path else names.get(hint, getattr(hint, "__name__", str(hint)))


def _name(value: Any) -> str:  # noqa: ANN401
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"[:80]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
