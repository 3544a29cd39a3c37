"""The results file's sections that rest on extractors: ``fidelity`` and ``memorisation``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arra_med.eval.extractor import Extractor
from arra_med.eval.inference import FolderPictures, PictureSource
from arra_med.eval.measures import Vectors, fidelity_row
from arra_med.eval.networks import Identity
from arra_med.eval.privacy import CopySearch, GeneratedPictures, SearchSpace, search_copies
from arra_med.eval.prompt_labels import with_labels
from arra_med.eval.stage import Stage, described
from arra_med.eval.view import ViewPictures, view_asked, view_test
from arra_med.schema import SPLITS
from arra_med.settings.results import THIS_RUN

Features = NDArray[np.float32]

POOL = 5000
"""Real pictures of the largest other split that are kept for references and the view test."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Real pictures of another split.

    Attributes:
        split: its name; empty if there is no other split.
        rows: samples, drawn if there are more than :data:`POOL`.
    """

    split: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def keys(self) -> list[str]:
        """Of the samples."""
        return [str(row["key"]) for row in self.rows]


class Encoder:
    """An extractor with the features that more than one section needs.

    Args:
        stage: the evaluation.
        extractor: the network.
        identity: from :func:`~arra_med.eval.independence.ready_identity`.
        pool: real pictures whose features are kept when they pass by.
    """

    def __init__(self, stage: Stage, extractor: Extractor, identity: Identity, pool: Pool) -> None:
        self.info = extractor.info
        self.against = stage.objections(identity, extractor.info)
        self.of_peers = stage.peer_objections(identity, extractor.info)
        self.fitted_splits: Sequence[str] = identity.get("fitted_splits", [])
        self._stage, self._extractor, self._identity = stage, extractor, identity
        self._wanted = {*pool.keys, *(sample["key"] for sample in stage.cohort.samples)}
        self._of_keys: dict[str, Features] = {}
        self._drawn: dict[int, Features] = {}  # by identity: the stage holds these lists

    def __call__(self, pictures: PictureSource, what: str) -> Features:
        """``(N, D)`` features; those of a generator's pictures are computed once."""
        if id(pictures) in self._drawn:
            return self._drawn[id(pictures)]
        features = self._stage.predict(self._extractor, pictures, what)
        if any(pictures is drawn.pictures for drawn in self._stage.generators.values()):
            self._drawn[id(pictures)] = features
        elif isinstance(pictures, FolderPictures):
            for key, vector in zip(pictures.keys, features, strict=True):
                if key in self._wanted:
                    self._of_keys[key] = vector.copy()
        return features

    def of(self, keys: Sequence[str], what: str) -> Features:
        """``(N, D)`` features of real pictures by key."""
        missing = [key for key in keys if key not in self._of_keys]
        if missing:
            found = self._stage.predict_real(self._extractor, self._identity, missing, what)
            self._of_keys.update(zip(missing, found, strict=True))
        return np.stack([self._of_keys[key] for key in keys])

    def drawn(self, name: str) -> Features:
        """``(M, D)`` features of one generator's pictures."""
        return self(self._stage.generators[name].pictures, f"{self.info.name}: {name}")

    @property
    def generated(self) -> Features:
        """``(M, D)`` features of the cohort's generated pictures."""
        return self.drawn(THIS_RUN)

    @property
    def real(self) -> Features:
        """``(N, D)`` features of the cohort's real pictures."""
        keys = [str(sample["key"]) for sample in self._stage.cohort.samples]
        return self.of(keys, f"{self.info.name}: real")


def reference_pool(stage: Stage) -> Pool:
    """Samples of the largest split beside the evaluated one."""
    of_split: dict[str, list[dict[str, Any]]] = {
        split: [] for split in SPLITS if split != stage.cohort.split
    }
    for row in stage.prepared.rows():
        if row["split"] in of_split:
            of_split[row["split"]].append(row)
    split = max(of_split, key=lambda name: len(of_split[name]))
    rows = of_split[split]
    if not rows:
        return Pool(split="", rows=[])
    drawn = np.sort(stage.generator("pool").permutation(len(rows))[:POOL])
    return Pool(split=split, rows=[rows[i] for i in drawn])


def ready_encoders(
    stage: Stage, extractors: Sequence[tuple[Extractor, Identity]], pool: Pool
) -> list[Encoder]:
    """Every extractor, in their order."""
    return [Encoder(stage, extractor, identity, pool) for extractor, identity in extractors]


def copies(stage: Stage, encoders: Sequence[Encoder]) -> CopySearch:
    """Search the training split for the generated pictures, if the settings ask for it."""
    options = stage.options.memorisation
    if not options.enabled:
        return CopySearch(section=None, note="evaluation.memorisation.enabled is false")
    cohort = stage.cohort
    return search_copies(
        [
            SearchSpace(
                name=encoder.info.name,
                extract=encoder,
                fitted_on_train="train" in encoder.fitted_splits,
            )
            for encoder in encoders
        ],
        stage.prepared,
        GeneratedPictures(
            keys=cohort.keys,
            indices=[int(row["index"]) for row in cohort.generated],
            patients=cohort.patients,
            pngs=cohort.pictures,
            constant=cohort.constant,
        ),
        options=options,
        generator=stage.generator("memorisation"),
        batch_size=stage.options.batch_size,
        workers=stage.options.workers,
        device=stage.device,
    )


def fidelity_section(stage: Stage, encoders: Sequence[Encoder], pool: Pool) -> list[dict[str, Any]]:
    """One row an extractor."""
    pool_samples, _ = with_labels(pool.rows, stage.cohort.label_mode)
    return [
        {
            "extractor": encoder.info.name,
            **described(encoder.info, encoder.against),
            "reference": _reference_words(stage, encoder, pool),
            **fidelity_row(
                Vectors(
                    real=encoder.real,
                    generated=encoder.generated,
                    pool=encoder.of(pool.keys, f"{encoder.info.name}: reference")
                    if pool.rows
                    else np.empty((0, encoder.real.shape[1]), np.float32),
                    pool_samples=pool_samples,
                ),
                stage.cohort,
                stage.resampling,
                forced=stage.options.force_fd,
                device=stage.device,
                generator=stage.generator(f"fidelity {encoder.info.name}"),
            ),
        }
        for encoder in encoders
    ]


def view_section(
    stage: Stage, encoders: Sequence[Encoder], pool: Pool
) -> tuple[dict[str, Any] | None, str | None]:
    """Section ``view`` by the first independent extractor, or the reason why there is none."""
    encoder = next((encoder for encoder in encoders if not encoder.against), encoders[0])
    cohort = stage.cohort
    views = [row["view"] for row in pool.rows]
    if not any(views):
        return None, "no real picture of another split has a view"
    result, note = view_test(
        train=ViewPictures(
            features=encoder.of(pool.keys, f"{encoder.info.name}: views"), views=views
        ),
        real=ViewPictures(
            features=encoder.real, views=[sample["view"] for sample in cohort.samples]
        ),
        generated=ViewPictures(
            features=encoder.generated,
            views=[view_asked(row["prompt"]) for row in cohort.generated],
        ),
        real_bootstrap=stage.resampling.real,
        generated_bootstrap=stage.resampling.generated,
    )
    if result is None:
        return None, note
    return {
        "classifier": f"a linear classifier on {encoder.info.name}",
        "independent": not encoder.against,
        "not_independent_because": encoder.against,
        **result,
    }, None


def _reference_words(stage: Stage, encoder: Encoder, pool: Pool) -> str | None:
    cohort = stage.cohort
    if not pool.rows:
        return None
    size = min(len(pool.rows), len(cohort.pictures))
    words = (
        f"{len(cohort.samples)} real pictures of the {cohort.split} split against {size} real "
        f"pictures of the {pool.split} split"
    )
    if size < len(cohort.pictures):
        words += f" (fewer than the {len(cohort.pictures)} generated: a lenient reference)"
    if pool.split in encoder.fitted_splits:
        words += "; the extractor was fitted on the latter, which makes this a lenient reference"
    return words
