"""``evaluate``: generated pictures set against the prepared folder, to ``results.json``.

The evaluation folder holds ``results.json`` (no time stamp: equal inputs give equal bytes),
``scores.parquet`` (one row a generated picture), ``panels/*.png`` and ``manifest.json``, written
last. ``report`` turns it into a page.
"""

import difflib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from arra_med.config import PluginConfig, to_tree
from arra_med.errors import RequestError
from arra_med.eval.cohort import Cohort, Drawn, load_cohort, read_drawn, read_pictures
from arra_med.eval.independence import ready_identity
from arra_med.eval.laterality import match_swapped
from arra_med.eval.picture_facts import offered_facts, prepared_facts
from arra_med.eval.plain_folder import OfferedPictures, open_other, open_pictures
from arra_med.eval.preflight import check_offered, check_prepared, preflight_section
from arra_med.eval.real_pictures import RealPictures
from arra_med.eval.results import make_results
from arra_med.eval.results_schema import check_results
from arra_med.eval.stage import Peer, Stage, SwappedPictures
from arra_med.registry import EXTRACTORS, IMAGE_TEXT_ENCODERS, JUDGES, Registry
from arra_med.settings import Evaluation, OtherPictures, Settings, section
from arra_med.store import PartWriter, PreparedFolder, canonical_json, content_hash

LOG = logging.getLogger(__name__)

RESULTS = "results.json"


def evaluate(settings: Settings, *, device: torch.device) -> Path:
    """Measure the generated pictures of a run, and set those of others beside them.

    A finished evaluation of the same inputs is left as it is.

    Returns:
        The evaluation folder.

    Raises:
        FileNotFoundError: if a folder or weights are missing.
        RequestError: if the folders do not belong together, or the evaluation folder holds an
            evaluation of other inputs.
        WorkError: if a network gives values that are not finite.
    """
    # libraries draw initial weights from the global state before they load others
    with torch.random.fork_rng(devices=[]):
        return _evaluate(settings, device)


def _evaluate(settings: Settings, device: torch.device) -> Path:
    options = section(settings.evaluation, "evaluation", "evaluate")
    prepared = PreparedFolder(settings.paths.folder("prepared"))
    generated = open_pictures(
        settings.paths.folder("generated"),
        prepared,
        encoding=options.encoding,
        delimiter=options.delimiter,
    )
    folder = settings.paths.folder("evaluation")
    model = _model(generated, no_teacher=options.no_teacher)
    _check_goals(options, prepared)
    cohort = load_cohort(prepared, generated, labels=options.labels)
    swapped = _swapped(options.swapped, generated, prepared)
    others = [open_other(other, prepared) for other in options.others]
    peers = {
        chosen.name: _peer(chosen, other, prepared, cohort)
        for chosen, other in zip(options.others, others, strict=True)
    }

    def identities(plugins: Sequence[PluginConfig], registry: Registry) -> list[dict[str, Any]]:
        return [_identity(plugin, registry, prepared, folder, device) for plugin in plugins]

    config = {
        "prepared": prepared.content_hash,
        "generated": generated.content_hash(),
        "judges": identities(options.judges, JUDGES),
        "extractors": identities(options.extractors, EXTRACTORS),
        "image_text": identities(options.image_text, IMAGE_TEXT_ENCODERS),
        "others": {other.name: other.content_hash() for other in others},
        "others_without_teacher": [other.name for other in options.others if other.no_teacher],
        "swapped": options.swapped and content_hash(options.swapped, "generated"),
        "seed": settings.seed,
        **_plain_options(options),
    }
    with PartWriter(folder, kind="evaluation", config=config) as writer:
        if writer.finished:
            LOG.info("%s is already done", folder)
            return folder
        stage = Stage(
            options=options,
            prepared=prepared,
            known=RealPictures(prepared),
            cohort=cohort,
            peers=peers,
            swapped=swapped,
            model=model,
            seed=settings.seed,
            device=device,
        )
        for words in stage.trained_elsewhere.values():
            LOG.warning("%s", words)
        drawn = list(stage.generators.values())
        preflight = _preflight(stage, [generated, *others], drawn)
        results, files = make_results(stage, config, preflight)
        text = canonical_json(results)
        check_results(json.loads(text))
        files[RESULTS] = text.encode()
        writer.write_part(0, files, {"pictures": len(cohort.pictures)})
        writer.finish(1, summary={"status": results["status"]})
    return folder


def _check_goals(options: Evaluation, prepared: PreparedFolder) -> None:
    for goal in options.goals:
        if goal.finding is not None and goal.finding not in prepared.label_names:
            near = difflib.get_close_matches(goal.finding, prepared.label_names, n=1, cutoff=0.5)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise RequestError(
                f"evaluation.goals: {prepared.folder} has no finding {goal.finding!r}{hint} "
                f"(there are {', '.join(prepared.label_names)})"
            )


def _plain_options(options: Evaluation) -> dict[str, Any]:
    """The settings on which results depend, but for networks and folders."""
    elsewhere = (
        "judges", "extractors", "image_text", "others", "swapped", "workers", "batch_size",
        "encoding", "delimiter",
    )  # fmt: skip
    tree: dict[str, Any] = to_tree(options)
    return {name: value for name, value in tree.items() if name not in elsewhere}


def _peer(
    chosen: OtherPictures, other: OfferedPictures, prepared: PreparedFolder, own: Cohort
) -> Peer:
    drawn = read_drawn(prepared, other)
    if drawn.split != own.split:
        raise RequestError(
            f"{other.folder} ({other.name}) holds pictures of the {drawn.split} split, the run's "
            f"are of the {own.split} split: compare pictures of the same prompts"
        )
    model = _model(other, no_teacher=chosen.no_teacher)
    return Peer(kind=other.kind, model=model, drawn=drawn)


def _preflight(
    stage: Stage, offered: Sequence[OfferedPictures], drawn: Sequence[Drawn]
) -> dict[str, Any]:
    """Section ``preflight``: the run's pictures, the others', the real ones."""
    prepared, workers = stage.prepared, stage.options.workers
    real = stage.known.facts(lambda: prepared_facts(prepared, workers=workers))
    checks = [
        check_offered(
            folder.name,
            # as they are on disk: what was evaluated, unless it had to be changed first
            pictures.facts if folder.unchanged else offered_facts(folder, workers=workers),
            prepared,
            real,
            any_kind=not folder.unchanged,
        )
        for folder, pictures in zip(offered, drawn, strict=True)
    ]
    return preflight_section([*checks, check_prepared(prepared, real)])


def _swapped(
    swapped: Path | None, generated: OfferedPictures, prepared: PreparedFolder
) -> SwappedPictures | None:
    if swapped is None:
        return None
    offered = open_pictures(swapped, prepared, name="evaluation.swapped")
    matched = match_swapped(generated, offered)
    rows, pngs, unreadable, _ = read_pictures(prepared, offered, matched)
    return SwappedPictures(rows=rows, pngs=pngs, unreadable=len(unreadable))


def _model(generated: OfferedPictures, *, no_teacher: bool) -> dict[str, Any]:
    """What the generated folder says of its generator, and what the settings add.

    Raises:
        RequestError: if it says nothing, or names a teacher where ``no_teacher`` is set.
    """
    model = generated.manifest["config"].get("model")
    if not isinstance(model, dict):
        raise RequestError(
            f"{generated.folder}: the manifest's config has no 'model' that says what drew the "
            'pictures; a generator writes at least {"teacher": null}'
        )
    if no_teacher and model.get("teacher"):
        raise RequestError(
            f"{generated.folder} names a teacher of its generator: remove no_teacher"
        )
    return model | {"teacher": None} if no_teacher else model


def _identity(
    plugin: PluginConfig,
    registry: Registry,
    prepared: PreparedFolder,
    folder: Path,
    device: torch.device,
) -> dict[str, Any]:
    for weights in _own_weights(plugin):
        if weights.resolve().is_relative_to(folder.resolve()):
            raise RequestError(
                f"the weights of {registry.kind} {plugin.name!r} are to lie inside {folder}, which "
                "'evaluate' writes afresh: name a folder outside it"
            )
    return ready_identity(plugin, registry, prepared, device)


def _own_weights(plugin: PluginConfig) -> Iterator[Path]:
    """Where a plug-in, and those it is built on, keep their weights."""
    for value in vars(plugin.options).values():
        if isinstance(value, PluginConfig):
            yield from _own_weights(value)
    weights = getattr(plugin.options, "weights", None)
    if isinstance(weights, Path):
        yield weights
