"""The networks of an evaluation, opened together: two that are not the same have two names.

A plug-in's name stands for a kind of network (every ``cnn`` of one input size is ``cnn-32``), and
the report tells networks apart by their names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arra_med.config import PluginConfig
from arra_med.eval.evaluator import Evaluator
from arra_med.eval.extractor import Extractor
from arra_med.eval.image_text import ImageTextEncoder
from arra_med.eval.judge import Judge
from arra_med.registry import EXTRACTORS, IMAGE_TEXT_ENCODERS, JUDGES, Registry
from arra_med.settings import Evaluation
from arra_med.store import fingerprint

Identity = Mapping[str, Any]

_NOT_THE_NETWORK = ("plugin", "fitted_splits", "shared")
"""What an identity says of the plug-in and of the evaluated folder."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Each with its identity, in the settings' order."""

    judges: Sequence[tuple[Judge, Identity]]
    extractors: Sequence[tuple[Extractor, Identity]]
    image_text: Sequence[tuple[ImageTextEncoder, Identity]]


def open_networks(options: Evaluation, identities: Mapping[str, Sequence[Identity]]) -> Networks:
    """All networks of the settings, of distinct names.

    Args:
        options: the settings.
        identities: of ``judges``, ``extractors`` and ``image_text``, from
            :func:`~arra_med.eval.independence.ready_identity`.
    """
    networks = Networks(
        judges=_opened(JUDGES, options.judges, identities["judges"]),
        extractors=_opened(EXTRACTORS, options.extractors, identities["extractors"]),
        image_text=_opened(IMAGE_TEXT_ENCODERS, options.image_text, identities["image_text"]),
    )
    name_apart([*networks.judges, *networks.extractors, *networks.image_text])
    return networks


def _opened(
    registry: Registry, plugins: Sequence[PluginConfig], identities: Sequence[Identity]
) -> list[tuple[Any, Identity]]:
    return [
        (registry.get(plugin.name)(plugin.options), identity)
        for plugin, identity in zip(plugins, identities, strict=True)
    ]


def name_apart(networks: Iterable[tuple[Evaluator, Identity]]) -> None:
    """Append a short hash to the names of networks that differ and share one: ``cnn-32#6af1c2``.

    A judge and an extractor of the same weights keep one name: they are one network.
    """
    alike: dict[str, list[tuple[Evaluator, str]]] = {}
    for network, identity in networks:
        own = {name: value for name, value in identity.items() if name not in _NOT_THE_NETWORK}
        alike.setdefault(network.info.name, []).append((network, fingerprint(own)[:6]))
    for name, found in alike.items():
        if len({mark for _, mark in found}) > 1:
            for network, mark in found:
                network.info = replace(network.info, name=f"{name}#{mark}")
