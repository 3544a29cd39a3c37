"""Judges and extractors: made ready, and asked whether they may count as evidence.

One that the run was aligned to, or that was fitted on the pictures it judges, proves nothing.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.eval.evaluator import Fitted
from arra_med.eval.fitted_files import learned_from, source_hashes
from arra_med.registry import Registry
from arra_med.store import PreparedFolder, waiting_lock

LOG = logging.getLogger(__name__)


def ready_identity(
    plugin: PluginConfig, registry: Registry, prepared: PreparedFolder, device: torch.device
) -> dict[str, Any]:
    """Identity of a judge or extractor, fitted first if it is to be and its weights are not there.

    Of one that was fitted on another folder (``fit_on``), ``fitted_splits`` are the splits of the
    evaluated folder that share pictures or patients with what it learned from, and ``shared`` says
    how many of each split; it is ``None`` if nobody can tell any more.

    Raises:
        FileNotFoundError: if weights are missing that cannot be made here.
        RequestError: if they were fitted on other pictures than the folder now holds.
    """
    kind = registry.get(plugin.name)
    fit_on: Path | None = getattr(plugin.options, "fit_on", None)
    if issubclass(kind, Fitted) and not kind.is_fitted(plugin.options):
        with waiting_lock(plugin.options.weights / "fit.lock", f"is fitting {plugin.name!r}"):
            if not kind.is_fitted(plugin.options):
                LOG.info("%s %r has no weights yet: fitting it", registry.kind, plugin.name)
                kind.fit(plugin.options, PreparedFolder(fit_on) if fit_on else prepared, device)
    identity: dict[str, Any] = kind.identity(plugin.options)
    if "fitted_on" not in identity:
        return {"plugin": plugin.name, **identity}
    # weights travel, pictures often may not: an absent folder was used before
    source = prepared if fit_on is None else PreparedFolder(fit_on) if fit_on.is_dir() else None
    if source is not None and identity["fitted_on"] != source.content_hash:
        raise RequestError(
            f"{registry.kind} {plugin.name!r} was fitted on other pictures than {source.folder} "
            "now holds: delete its weights folder, or name another one, and it is fitted again"
        )
    if identity["fitted_on"] != prepared.content_hash:
        learned = learned_from(plugin.options.weights)
        if learned is None and source is not None:
            learned = source_hashes(source)["train"]
        shared = None if learned is None else _shared(learned, prepared)
        identity["fitted_splits"] = list(shared or ())
        if shared != {}:
            identity["shared"] = shared
    return {"plugin": plugin.name, **identity}


def _shared(
    learned: Mapping[str, Sequence[str]], prepared: PreparedFolder
) -> dict[str, dict[str, int]]:
    """Split → how many of its ``pictures`` and ``patients`` are among those learned from.

    Splits that share nothing are left out. The same source may have been prepared twice, at another
    size or split otherwise: the folders' hashes do not show that.
    """
    shared: dict[str, dict[str, int]] = {}
    for split, hashes in source_hashes(prepared).items():
        counts = {kind: len({*found} & {*learned[kind]}) for kind, found in hashes.items()}
        if any(counts.values()):
            shared[split] = counts
    return shared


def objections(
    identity: Mapping[str, Any],
    *,
    called: str | None = None,
    saw: Sequence[str] = (),
    teacher: Mapping[str, Any] | None,
    generator: str = "the run",
    dataset: str,
    split: str,
) -> list[str]:
    """Why a judge or encoder is not independent; empty if it is.

    Args:
        identity: from :func:`ready_identity`.
        called: its name for readers; by default the plug-in's.
        saw: datasets it was trained on.
        teacher: identity of the teacher the generator was aligned to, if any.
        generator: what readers call it.
        dataset: name of the adapter that the real pictures came through.
        split: which split of the prepared folder is compared.
    """
    reasons = []
    name = called or identity["plugin"]
    if teacher is not None:
        if weight_hashes(identity) & weight_hashes(teacher):
            reasons.append(f"{name} has the weights of the teacher {generator} was aligned to")
        elif _bears_name_of(teacher, identity):
            reasons.append(f"{name} bears the name of the teacher {generator} was aligned to")
    if dataset in saw:
        reasons.append(f"{name} was trained on pictures of {dataset}, perhaps on these")
    shared: Mapping[str, Any] | None = identity.get("shared", {})
    if shared is None:
        reasons.append(
            f"{name} was fitted on another folder by an older version, and whether that holds "
            f"pictures of the {split} split is not known: fit it again"
        )
    elif split in shared:
        reasons.append(
            f"{name} was fitted on another folder with {shared[split]['pictures']} pictures and "
            f"{shared[split]['patients']} patients of the {split} split, which it now judges"
        )
    elif split in identity.get("fitted_splits", []):
        reasons.append(f"{name} was fitted on the {split} split, which it now judges")
    return reasons


def trained_elsewhere(
    model: Mapping[str, Any], prepared: str, *, generator: str, split: str
) -> str | None:
    """What to know of a generator that was trained on other prepared folders, as a sentence.

    Args:
        model: what it says of itself; one that names no prepared folder is not spoken of.
        prepared: content hash of the folder that is evaluated.
        generator: what readers call it.
        split: which split of that folder is compared.
    """
    trained = model.get("trained_on")
    folders = trained.get("folders") if isinstance(trained, Mapping) else None
    hashes = [folder["prepared"] for folder in folders or [] if "prepared" in folder]
    if not hashes or prepared in hashes:
        return None
    theirs = ", ".join(one[:12] for one in hashes)
    return (
        f"{generator} was trained on another prepared folder ({theirs}) than the evaluated one "
        f"({prepared[:12]}): unless they share no patients, pictures of the {split} split may have "
        "trained it; and copies are searched among the training pictures of the evaluated folder, "
        "not among those it learned from."
    )


def weight_hashes(identity: Mapping[str, Any]) -> set[str]:
    """Hashes under keys that speak of weights, at any depth of an identity."""
    hashes: set[str] = set()
    for key, value in identity.items():
        if isinstance(value, Mapping):
            hashes |= weight_hashes(value)
        elif "weights" in key and isinstance(value, str):
            hashes.add(value)
    return hashes


def _bears_name_of(teacher: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Whether an identity, or one inside it, has the teacher's name: its weights in another file.

    Names like ``timm`` stand for many networks; another architecture is another one.
    """
    names = {identity.get("plugin"), identity.get("name")} - {None}
    architectures = {teacher.get("architecture"), identity.get("architecture")} - {None}
    if teacher.get("name") in names and len(architectures) < 2:
        return True
    inner = (value for value in identity.values() if isinstance(value, Mapping))
    return any(_bears_name_of(teacher, value) for value in inner)
