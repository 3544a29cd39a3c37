"""YAML files, read with errors that hold nothing of their text.

A file that was named by mistake may hold reports and names, and PyYAML's own messages quote the
line that they stumble over.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from arra_med.errors import RequestError

_QUOTED = re.compile(r""" (?:'(?!<|\\)[^']{2,}'|"[^"]{2,}")""")
"""More than one character of the text; ``'<block end>'`` is the parser's own."""


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - whatever YAML can say
    """What a YAML file holds; a key that stands twice in one mapping is an error.

    Raises:
        RequestError: if it is no YAML, saying where and why and nothing of what it holds.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not readable YAML: byte {error.start} is not UTF-8: save it as UTF-8"
        ) from None
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        wrong = f"{_place(error, text)}{problem(error)}"
        raise RequestError(f"{path} is not readable YAML: {wrong}") from None  # it quotes the text


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(sorted(twice))} stands here twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def problem(error: yaml.YAMLError | ValueError) -> str:
    """The parser's words on one line: ``expected ':' (while scanning a simple key)``.

    Args:
        error: what reading a text as YAML raised; ``ValueError`` for an impossible date or number.
    """
    if isinstance(error, yaml.MarkedYAMLError):
        words = [_QUOTED.sub("", part) for part in (error.problem, error.context) if part]
        return words[0] + "".join(f" ({part})" for part in words[1:])
    if isinstance(error, yaml.reader.ReaderError):
        return f"it holds a character that YAML does not allow, number {error.character:#x}"
    return "it holds a date or number that is none"


def _place(error: yaml.YAMLError | ValueError, text: str) -> str:
    """``"line 2, column 5: "`` of what is wrong in ``text``; empty if it is not known."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        column = error.position - (before.rfind("\n") + 1)
        return f"line {before.count(chr(10)) + 1}, column {column + 1}: "
    return ""
