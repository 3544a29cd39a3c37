"""The networks of an evaluation, opened together: two that are not the same have two names.

A plug-in's name stands for a kind of network (every ``cnn`` of one input size is ``cnn-32``), and
the report tells networks apart by their names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arra_med.eval.evaluator import Evaluator
from arra_med.eval.extractor import Extractor
from arra_med.eval.image_text import ImageTextEncoder
from arra_med.eval.judge import Judge
from arra_med.registry import EXTRACTORS, IMAGE_TEXT_ENCODERS, JUDGES
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
    judges = [JUDGES.get(plugin.name)(plugin.options) for plugin in options.judges]
    extractors = [EXTRACTORS.get(plugin.name)(plugin.options) for plugin in options.extractors]
    encoders = [
        IMAGE_TEXT_ENCODERS.get(plugin.name)(plugin.options) for plugin in options.image_text
    ]
    networks = Networks(
        judges=list(zip(judges, identities["judges"], strict=True)),
        extractors=list(zip(extractors, identities["extractors"], strict=True)),
        image_text=list(zip(encoders, identities["image_text"], strict=True)),
    )
    name_apart([*networks.judges, *networks.extractors, *networks.image_text])
    return networks


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
