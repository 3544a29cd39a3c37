"""``evaluate``: a generated folder set against the prepared folder, to ``results.json``.

The evaluation folder holds ``results.json`` (no time stamp: equal inputs give equal bytes),
``scores.parquet`` (one row a generated picture), ``panels/*.png`` and ``manifest.json``, written
last. ``report`` turns it into a page.
"""

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from arra_med._version import __version__
from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.eval import consistency, judging, measures
from arra_med.eval.cohort import Cohort, load_cohort
from arra_med.eval.extractor import Extractor
from arra_med.eval.independence import objections, ready_identity
from arra_med.eval.inference import predict
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.judge import Judge
from arra_med.eval.panels import RULES, choose, panels
from arra_med.generation.folder import GeneratedFolder
from arra_med.registry import EXTRACTORS, JUDGES, Registry
from arra_med.schema import SCHEMA_VERSION
from arra_med.settings import Evaluation, Settings, section
from arra_med.store import PartWriter, PreparedFolder, canonical_json, content_hash

LOG = logging.getLogger(__name__)

RESULTS, SCORES = "results.json", "scores.parquet"
_PACKAGES = ("monai", "numpy", "pillow", "scipy", "torch", "torchvision")


def evaluate(settings: Settings, *, device: torch.device) -> Path:
    """Measure the generated pictures of a run.

    A finished evaluation of the same inputs is left as it is.

    Returns:
        The evaluation folder.

    Raises:
        FileNotFoundError: if a folder or weights are missing.
        RequestError: if the folders do not belong together, or the evaluation folder holds an
            evaluation of other inputs.
        WorkError: if a network gives values that are not finite.
    """
    options = section(settings.evaluation, "evaluation", "evaluate")
    prepared = PreparedFolder(settings.paths.folder("prepared"))
    generated = GeneratedFolder(settings.paths.folder("generated"))
    folder = settings.paths.folder("evaluation")
    model = _model(generated)
    cohort = load_cohort(prepared, generated)
    judge_identity = _identity(options.judge, JUDGES, prepared, folder, device)
    extractor_identity = _identity(options.extractor, EXTRACTORS, prepared, folder, device)
    config = {
        "prepared": prepared.content_hash,
        "generated": content_hash(generated.folder, "generated"),
        "judge": judge_identity,
        "extractor": extractor_identity,
        "seed": settings.seed,
        "bootstrap": options.bootstrap,
        "min_positives": options.min_positives,
        "panels": options.panels,
    }
    with PartWriter(folder, kind="evaluation", config=config) as writer:
        if writer.finished:
            LOG.info("%s is already done", folder)
            return folder
        stage = _Stage(
            options=options, prepared=prepared, cohort=cohort, seed=settings.seed, device=device
        )
        results, files = stage.run(model, config)
        files[RESULTS] = canonical_json(results).encode()
        writer.write_part(0, files, {"pictures": len(cohort.pictures)})
        writer.finish(1, summary={"status": results["status"]})
    return folder


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One evaluation with everything its parts share."""

    options: Evaluation
    prepared: PreparedFolder
    cohort: Cohort
    seed: int
    device: torch.device

    def run(
        self, model: Mapping[str, Any], config: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, bytes | pa.Table]]:
        """The results and the files beside them."""
        cohort, options = self.cohort, self.options
        bootstrap = ClusteredBootstrap(
            cohort.patients, replicates=options.bootstrap, generator=self.generator("bootstrap")
        )
        judge: Judge = JUDGES.get(options.judge.name)(options.judge.options)
        judge_objections = self.objections(config["judge"], model)
        if cohort.split == "validate":
            judge_objections.append("the judge's thresholds were fixed on the pictures it judges")
        judged = judging.judge_cohort(judge, partial(self.predict, judge), self.prepared, cohort)
        findings, overall = judging.findings_sections(
            judge,
            judged,
            cohort,
            self.prepared.label_names,
            bootstrap=bootstrap,
            min_positives=options.min_positives,
        )
        fidelity, extractor_objections = self.fidelity(config["extractor"], model)
        reasons = _status_reasons(model, judge_objections, extractor_objections, findings)
        choices = choose(
            judging.distances(judged, cohort), options.panels, self.generator("panels")
        )
        panel_rows, files = panels(cohort, choices, judged.generated, judged.real)
        results = {
            "kind": "evaluation",
            "schema_version": SCHEMA_VERSION,
            "status": "incomplete" if reasons else "complete",
            "status_reasons": reasons,
            "model": dict(model),
            "cohort": cohort.to_json(),
            "fidelity": [fidelity],
            "similarity": measures.similarity(
                cohort,
                bootstrap,
                replicates=options.bootstrap,
                batch_size=options.batch_size,
                device=self.device,
                generator=self.generator("similarity"),
            ),
            "judge": {
                "name": judge.info.name,
                "trained_on": judge.info.trained_on,
                "preprocessing": judge.info.preprocessing,
                "independent": not judge_objections,
                "not_independent_because": judge_objections,
                "threshold_rule": consistency.THRESHOLD_RULE,
            },
            "findings": findings,
            "overall": overall,
            "panels": panel_rows,
            "protocol": _protocol(config),
        }
        labels = self.prepared.samples.schema.field("labels")
        return results, {**files, SCORES: judging.scores_table(judged, cohort, labels)}

    def generator(self, purpose: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that adding one does not disturb another."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def objections(self, identity: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
        """Why a judge or extractor is not independent of this run."""
        return objections(identity, teacher=model.get("teacher"), split=self.cohort.split)

    def predict(
        self, module: torch.nn.Module, pngs: Sequence[bytes], what: str
    ) -> NDArray[np.float32]:
        """``(N, D)`` outputs of a network for some pictures."""
        return predict(
            module.to(self.device).eval(),
            pngs,
            batch_size=self.options.batch_size,
            device=self.device,
            what=what,
        )

    def fidelity(
        self, identity: Mapping[str, Any], model: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """One row of section ``fidelity``, and why its extractor is not independent."""
        cohort = self.cohort
        generator = self.generator("fidelity")
        config = self.options.extractor
        extractor: Extractor = EXTRACTORS.get(config.name)(config.options)
        real = [cohort.real[sample["key"]] for sample in cohort.samples]
        reference = measures.real_reference(self.prepared, cohort, generator)
        of_reference = None
        if reference is not None:
            of_reference = self.predict(extractor, reference.pictures, "features: reference")
        objections_ = self.objections(identity, model)
        row = {
            "extractor": extractor.info.name,
            "trained_on": extractor.info.trained_on,
            "preprocessing": extractor.info.preprocessing,
            "independent": not objections_,
            "not_independent_because": objections_,
            "reference": _reference_words(reference, identity, cohort),
            **measures.fidelity_row(
                self.predict(extractor, real, "features: real"),
                self.predict(extractor, cohort.pictures, "features: generated"),
                of_reference,
                reference_size=reference.size if reference else 0,
                bootstrap=self.options.bootstrap,
                generator=generator,
            ),
        }
        return row, objections_


def _model(generated: GeneratedFolder) -> dict[str, Any]:
    """What the generated folder says of its generator.

    Raises:
        RequestError: if it says nothing.
    """
    model = generated.manifest["config"].get("model")
    if not isinstance(model, dict):
        raise RequestError(
            f"{generated.folder}: the manifest's config has no 'model' that says what drew the "
            'pictures; a generator writes at least {"teacher": null}'
        )
    return model


def _identity(
    plugin: PluginConfig,
    registry: Registry,
    prepared: PreparedFolder,
    folder: Path,
    device: torch.device,
) -> dict[str, Any]:
    weights = getattr(plugin.options, "weights", None)
    if isinstance(weights, Path) and weights.resolve().is_relative_to(folder.resolve()):
        raise RequestError(
            f"the weights of {registry.kind} {plugin.name!r} are to lie inside {folder}, which "
            "'evaluate' writes afresh: name a folder outside it"
        )
    return ready_identity(plugin, registry, prepared, device)


def _status_reasons(
    model: Mapping[str, Any],
    judge: list[str],
    extractor: list[str],
    findings: list[dict[str, Any]],
) -> list[str]:
    """Why the evaluation is incomplete, in words; empty if it is complete."""
    reasons = []
    if "teacher" not in model:
        reasons.append(
            "The generator does not say whether it was aligned to a teacher, so that no judge can "
            "be called independent of it."
        )
    reasons += [f"No independent judge: {reason}." for reason in judge]
    reasons += [f"No independent extractor: {reason}." for reason in extractor]
    if not any(row["status"] == "scored" for row in findings):
        reasons.append("No finding had enough pictures to be scored.")
    return reasons


def _reference_words(
    reference: measures.Reference | None, identity: Mapping[str, Any], cohort: Cohort
) -> str | None:
    if reference is None:
        return None
    words = (
        f"{len(cohort.samples)} real pictures of the {cohort.split} split against "
        f"{reference.size} real pictures of the {reference.split} split"
    )
    if len(reference.pictures) > reference.size:
        words += f", mean of {measures.REFERENCE_DRAWS} draws"
    if reference.size < len(cohort.pictures):
        words += f" (fewer than the {len(cohort.pictures)} generated: a lenient reference)"
    if reference.split in identity.get("fitted_splits", []):
        words += "; the extractor was fitted on the latter, which makes this a lenient reference"
    return words


def _protocol(config: Mapping[str, Any]) -> dict[str, Any]:
    """What travels with every number."""
    versions = {"arra_med": __version__, "python": platform.python_version()}
    return {
        **config,
        "versions": versions | {package: version(package) for package in _PACKAGES},
        "uncertain_labels": consistency.UNCERTAIN_POLICY,
        "intervals": "95 %, percentile bootstrap over patients; KID's over pictures",
        "resize": "none before the networks; each resizes as its preprocessing says",
        "panel_rules": RULES,
    }
