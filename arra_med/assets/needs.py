"""Which assets a configuration needs.

A plug-in may say so itself, by a classmethod ``assets(options) -> tuple[str, ...]`` that names
catalogue entries or hub repositories. One that does not, or names none, is asked through its option
``weights``: ``hf-hub:owner/name`` is a repository, a folder (``local-dir:`` may stand before it) is
the user's own, and nothing there means what the catalogue lists for the plug-in. Options that are
plug-ins themselves are asked too.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from arra_med.assets.catalogue import Asset, Kind, catalogue, local, resolve
from arra_med.assets.folder import HUB, LOCAL, is_name
from arra_med.config import PluginConfig
from arra_med.registry import (
    EXTRACTORS,
    IMAGE_TEXT_ENCODERS,
    JUDGES,
    REGISTRIES,
    TEACHERS,
    TOKENIZERS,
    Registry,
)
from arra_med.settings import Settings


def needed(settings: Settings) -> list[Asset]:
    """Every asset that some stage of ``settings`` loads, once, and folders of the user's own.

    Raises:
        RequestError: if a plug-in names something that is no asset.
    """
    found: dict[str, Asset] = {}
    for asset in _all(settings):
        before = found.get(asset.name, asset)
        kinds = tuple(dict.fromkeys((*before.kinds, *asset.kinds)))
        found[asset.name] = dataclasses.replace(asset, kinds=kinds)
    return list(found.values())


def _all(settings: Settings) -> Iterator[Asset]:
    if settings.tokenizer is not None:
        yield from _of_plugin(settings.tokenizer.plugin, TOKENIZERS, "tokenizer")
        yield from _of_weights(settings.tokenizer.training.perceptual.weights, "tokenizer")
    if settings.features is not None:
        yield from _of_plugin(settings.features.teacher, TEACHERS, "teacher")
    if settings.backbone is not None and settings.backbone.pretrained is not None:
        yield _of_model(settings.backbone.pretrained)
    export = settings.paths.export
    trained_here = settings.backbone is not None  # then the export is a folder of this run
    if not trained_here and export is not None and is_name(str(export)) and not export.is_dir():
        yield _of_model(export)
    if settings.generation.diffusers is not None:
        yield _of_model(settings.generation.diffusers.pipeline)
    if settings.evaluation is not None:
        for judge in settings.evaluation.judges:
            yield from _of_plugin(judge, JUDGES, "judge")
        for extractor in settings.evaluation.extractors:
            yield from _of_plugin(extractor, EXTRACTORS, "extractor")
        for encoder in settings.evaluation.image_text:
            yield from _of_plugin(encoder, IMAGE_TEXT_ENCODERS, "extractor")


def _of_plugin(config: PluginConfig, registry: Registry, kind: Kind) -> Iterator[Asset]:
    """What a plug-in loads, and what those among its options load, as assets of ``kind``."""
    for option in dataclasses.fields(config.options):
        inner = getattr(config.options, option.name)
        if isinstance(inner, PluginConfig):
            yield from _of_plugin(inner, option.metadata["registry"], kind)
    plugin = registry.get(config.name)
    if hasattr(plugin, "is_fitted"):
        return  # a stage makes its weights
    weights = getattr(config.options, "weights", None)
    text = "" if weights is None else str(weights)
    names: Sequence[str] = plugin.assets(config.options) if hasattr(plugin, "assets") else ()
    if not names and text.startswith(HUB):
        names = (text.removeprefix(HUB),)
    elif not names and text:
        yield local(Path(text.removeprefix(LOCAL)), kind)
    elif not names:
        table = next(name for name, other in REGISTRIES.items() if other is registry)
        names = catalogue().plugins.get(table, {}).get(config.name, ())
    for name in names:
        yield dataclasses.replace(resolve(name), kinds=(kind,))


def _of_weights(weights: Path | None, kind: Kind) -> Iterator[Asset]:
    """A file or folder of the user's own, or ``hf-hub:owner/name``."""
    if weights is None:
        return
    text = str(weights)
    if text.startswith(HUB):
        yield dataclasses.replace(resolve(text.removeprefix(HUB)), kinds=(kind,))
    else:
        yield local(Path(text.removeprefix(LOCAL)), kind)


def _of_model(pretrained: Path) -> Asset:
    """A folder if there is one, else a hub repository if it has the form of one."""
    if not pretrained.is_dir() and is_name(str(pretrained)):
        return dataclasses.replace(resolve(str(pretrained)), kinds=("backbone",))
    return local(pretrained, "backbone")
