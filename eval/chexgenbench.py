"""CheXGenBench's published rows, and ours by its definitions.

Dutt et al., "CheXGenBench: A Unified Benchmark For Fidelity, Privacy and Utility of Synthetic Chest
Radiographs", arXiv 2505.10496: Fréchet distance, precision, recall and coverage (k = 5) of RAD-DINO
features, pictures squashed to 299 px first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike

from arra_med.assets.catalogue import resolve
from arra_med.eval.feature_stats import as_pair
from arra_med.eval.frechet import LEAST_PER_DIMENSION, frechet_distance
from arra_med.eval.prdc import prdc
from arra_med.eval.teacher_extractor import CXGB_COMPAT

CPU = torch.device("cpu")
DATASET, SPLIT, NEIGHBOURS = "mimic-cxr", "test", 5

_RAD_DINO = "microsoft/rad-dino"
_BENCHMARK = "CheXGenBench, arXiv 2505.10496"
_UNIX = "UniX's own README, not the benchmark's authors; perhaps a mean over shards"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published row; lower ``fd`` and higher shares are better.

    Attributes:
        name: of the generator.
        fd: Fréchet distance of RAD-DINO features.
        recall: share of real pictures covered.
        coverage: share of real neighbourhoods that hold a generated picture.
        precision: share of generated pictures within the real ones' neighbourhoods, if known.
        source: who published it.
    """

    name: str
    fd: float
    recall: float
    coverage: float
    precision: float | None = None
    source: str = _BENCHMARK


PUBLISHED = (
    Published(name="Sana .60B", fd=54.2, recall=0.614, coverage=0.548),
    Published(name="PixArt-Σ", fd=60.2, recall=0.522, coverage=0.506),
    Published(name="RadEdit", fd=69.7, recall=0.544, coverage=0.285),
    Published(name="LLM-CXR", fd=71.2, recall=0.041, coverage=0.459, precision=0.782),
    Published(name="UniX-512", fd=54.0, recall=0.479, coverage=0.550, source=_UNIX),
)


def benchmark_row(
    name: str,
    real: ArrayLike,
    generated: ArrayLike,
    *,
    forced: bool = False,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Our row by the benchmark's definitions.

    Args:
        name: of the generator.
        real: ``(N, D)`` features of the real pictures.
        generated: ``(M, D)`` features of the generated pictures.
        forced: give the Fréchet distance below two pictures a dimension too, where it is mostly
            bias.
        device: where distances are computed.

    Raises:
        ValueError: on other shapes or types, or values that are not finite.
    """
    a, b = as_pair(real, generated, least=2)
    row: dict[str, Any] = {
        "name": name, "fd": None, "recall": None, "coverage": None, "precision": None,
        "source": "this evaluation", "ours": True,
    }  # fmt: skip
    fewest, least = min(len(a), len(b)), LEAST_PER_DIMENSION * a.shape[1]
    if fewest >= least or forced:
        row["fd"] = frechet_distance(a, b, device=device)
    if fewest < least:
        row["fd_note"] = (
            f"{'mostly bias' if forced else 'not given'}: {fewest} pictures, {least} are needed "
            f"for {a.shape[1]} features"
        )
    if fewest > NEIGHBOURS:
        shares = prdc(a, b, NEIGHBOURS, device=device)
        row |= {name: getattr(shares, name) for name in ("precision", "recall", "coverage")}
    else:
        row["recall_note"] = f"{fewest} pictures are too few for {NEIGHBOURS} neighbours"
    return row


def benchmark_section(
    ours: Sequence[dict[str, Any]],
    *,
    extractor: str | None,
    dataset: str,
    split: str,
    n_real: int,
    n_generated: int,
    resized: str | None = None,
) -> dict[str, Any]:
    """The results file's section ``comparison.chexgenbench``: our rows, then the published ones.

    Args:
        ours: from :func:`benchmark_row`; none without the benchmark's extractor.
        extractor: name of the extractor behind them.
        dataset: name of the adapter that the real pictures came through.
        split: that was evaluated.
        n_real: real pictures.
        n_generated: generated pictures of our first row.
        resized: how pictures were changed before, in words.
    """
    differs = _differences(extractor, dataset, split)
    unknown = (
        f"the benchmark draws the captions of LLaVA-Rad's annotations and keeps one real picture "
        f"a caption; how many pictures stand behind its rows is not known here, and a Fréchet "
        f"distance depends on it (ours: {n_real} real and {n_generated} generated)"
    )
    if resized:
        unknown += f"; {resized}"
    same = (
        "extractor, its preprocessing, the definitions, the data set and its official test split "
        "are the benchmark's; "
    )
    rows = [
        {
            "name": one.name, "fd": one.fd, "recall": one.recall, "coverage": one.coverage,
            "precision": one.precision, "source": one.source, "ours": False,
        }
        for one in PUBLISHED
    ]  # fmt: skip
    return {
        "comparable": not differs,
        "note": f"{'; '.join(differs)}; besides, {unknown}" if differs else same + unknown,
        "rows": [*ours, *rows],
    }


def _published_weights() -> str:
    """SHA-256 of RAD-DINO's weights on the hub."""
    return resolve(_RAD_DINO).known("model.safetensors").sha256 or ""


def _differences(extractor: str | None, dataset: str, split: str) -> list[str]:
    """What is known to differ from the benchmark's protocol."""
    found = []
    if extractor is None:
        found.append(
            "there is no row of ours, as no extractor is the benchmark's (the extractor 'teacher' "
            "with teacher 'rad-dino' and squash 299)"
        )
    elif extractor.split("@")[0] != CXGB_COMPAT:
        found.append(f"the extractor is {extractor}, the benchmark's is {CXGB_COMPAT}")
    elif not _published_weights().startswith(extractor.split("@")[-1]):
        found.append(f"the weights of {extractor} are not those published as {_RAD_DINO}")
    if dataset != DATASET:
        found.append(f"the pictures are of {dataset}, the benchmark's of {DATASET}")
    if split != SPLIT:
        found.append(f"the {split} split was drawn, the benchmark's is the official {SPLIT} split")
    return found
