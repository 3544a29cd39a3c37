"""The configuration as the dataset card may show it: without paths and secrets."""

import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arra_med.registry import DATASETS

HIDDEN = "(not shown)"
_HIDDEN_NAMES = re.compile(
    r"(^|_)(file|files|root|path|paths|folder|dir|key|secret|salt|password|token)(_|$)"
)
_NOT_CONTENT = ("part_size", "workers", "shard")  # say how it was worked, not what came out


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of an ingest's configuration may stand in the card.

    Hidden are options that an adapter declares as paths, options whose name says that they are a
    path or a secret, and texts that look like a path.

    Args:
        config: ``dataset`` (its ``name`` and options), ``size``, ``crop`` and others.

    Returns:
        ``dataset``, ``options``, and the other settings that decide the content.
    """
    dataset = dict(config["dataset"])
    name = str(dataset.pop("name"))
    paths = _path_options(name)
    rest = {key: value for key, value in config.items() if key not in ("dataset", *_NOT_CONTENT)}
    return {
        "dataset": name,
        "options": {
            key: HIDDEN if key in paths and value else _public(key, value)
            for key, value in dataset.items()
        },
        **{key: _public(key, value) for key, value in rest.items()},
    }


def _path_options(name: str) -> set[str]:
    if name not in DATASETS.names():  # written by a plug-in that is not installed here
        return set()
    hints = typing.get_type_hints(DATASETS.get(name).Options)
    return {key for key, hint in hints.items() if _mentions_path(hint)}


def _mentions_path(hint: Any) -> bool:  # noqa: ANN401 - any type annotation
    return hint is Path or any(map(_mentions_path, typing.get_args(hint)))


def _public(key: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {str(k): _public(str(k), v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_public(key, item) for item in value]
    if not isinstance(value, str) or not value:
        return value
    looks_like_path = re.search(r"[/\\]|^~", value) and "{text}" not in value
    return HIDDEN if looks_like_path or _HIDDEN_NAMES.search(key) else value
