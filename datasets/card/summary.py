"""The dataset card: what a prepared folder holds, counted in one pass.

:func:`summarise` gives a plain JSON dictionary, :func:`card_json` and ``card_markdown`` its two
files. Equal folders give equal bytes: nothing depends on how the samples come in, and there is no
date, path, patient id or prompt in it. Keys of the summary (every ``bins`` is a list of
``{from, to, count}``, ``from`` ≤ value < ``to``, ``to`` null when open):

* ``made``: the configuration without paths. ``counts``: found, samples, excluded.
* ``by_split``: pictures by split. ``studies`` and ``patients``: all, and by_split; of patients also
  in_several_splits (must be 0) and the mean, median and max of pictures_each.
* ``views``: modality, view (null: none), and pictures by split; most frequent first.
* ``prompt_sources``: prompt_source, and pictures by split; most frequent first.
* ``labels``: label, and by split how often it is present, absent, uncertain, unknown.
* ``exclusions``: reason, count, and the first item's detail as an example; most frequent first.
* ``sizes``, of the source pictures: distinct, smaller_than_training (shorter side), cropped (a
  centre crop cuts away more than a quarter), top (the ten most frequent), bins of megapixels and
  of aspect_ratio (width / height).
* ``prompt_words``: median and p95 (nearest rank), max, long (over 150 words), bins.
* ``clean_up``: kind → how often it was applied.
* ``duplicates``: of prompts and of pictures (equal source files) how many are distinct, how many
  samples share theirs with another, how many stand in several splits.
* ``warnings``: rule, and text for a person.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from arra_med.datasets.card.options import public_config
from arra_med.datasets.card.tally import Tally, hash_texts
from arra_med.datasets.card.warnings import LONG_PROMPT, warnings
from arra_med.errors import WorkError
from arra_med.schema import ABSENT, PRESENT, SCHEMA_VERSION, SPLITS, UNCERTAIN, Split
from arra_med.store import canonical_json

_ROWS = 4096  # samples looked at at a time
_BITS = {split: 1 << index for index, split in enumerate(SPLITS)}
_UNKNOWN = 2  # stands for null where labels are counted
_MEGAPIXELS = (0, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16)
_ASPECTS = (0, 0.5, 0.67, 0.75, 0.8, 0.9, 0.98, 1.02, 1.1, 1.25, 1.33, 1.5, 2)
_TOP_SIZES = 10


def summarise(
    samples: Iterable[pa.RecordBatch | pa.Table],
    exclusions: Iterable[Mapping[str, str]],
    *,
    counts: Mapping[str, int],
    edits: Mapping[str, int],
    config: Mapping[str, Any],
    label_names: Sequence[str],
) -> dict[str, Any]:
    """Count everything the card says.

    Memory does not grow with the samples, but for 13 bytes a distinct patient, study, prompt,
    source file and source size.

    Args:
        samples: rows of ``samples.parquet``, in pieces of any size.
        exclusions: lines of ``excluded.jsonl``, parsed.
        counts: ``found``, ``samples`` and ``excluded``, as in the manifest.
        edits: clean-up kind → how often it was applied.
        config: the ingest's configuration, as in the manifest.
        label_names: names of the labels, in order.

    Returns:
        The summary; its keys are in the module's docstring.

    Raises:
        WorkError: if samples and exclusions are not as many as ``counts`` says, or a label has a
            value that does not exist.
    """
    counter = _Counter(label_names)
    for batch in _batches(samples):
        counter.add(batch)
    excluded = _count_exclusions(exclusions)
    num_excluded = sum(entry["count"] for entry in excluded)
    found = {
        "found": counter.num_samples + num_excluded,
        "samples": counter.num_samples,
        "excluded": num_excluded,
    }
    expected = {name: counts[name] for name in found}
    if found != expected:
        raise WorkError(f"the prepared folder holds {found}, but {expected} were counted")
    size = int(config["size"])
    summary = {
        "schema_version": SCHEMA_VERSION,
        "made": public_config(config),
        "counts": found,
        **counter.summary(size),
        "exclusions": excluded,
        "clean_up": dict(edits),
    }
    return {**summary, "warnings": warnings(summary)}


def card_json(summary: Mapping[str, Any]) -> bytes:
    """The summary as canonical JSON."""
    return canonical_json(summary).encode("utf-8", "backslashreplace")


class _Counter:
    """Everything that is counted over the samples."""

    def __init__(self, label_names: Sequence[str]) -> None:
        self.label_names = list(label_names)
        self.num_samples = 0
        self.groups: Counter[tuple[str, str | None, Split]] = Counter()  # modality, view, split
        self.sources: Counter[tuple[str, str]] = Counter()  # prompt source, split
        self.words: Counter[int] = Counter()
        self.labels = {
            split: {
                value: np.zeros(len(self.label_names), np.int64)
                for value in (PRESENT, ABSENT, UNCERTAIN, _UNKNOWN)
            }
            for split in SPLITS
        }
        self.patients, self.studies = Tally(), Tally()
        self.prompts, self.pictures, self.sizes = Tally(), Tally(), Tally()

    def add(self, batch: pa.RecordBatch) -> None:
        column = {name: batch.column(name) for name in batch.schema.names}
        splits = column["split"].to_pylist()
        bits = np.array([_BITS[split] for split in splits], np.uint8)
        self.num_samples += batch.num_rows
        self.groups.update(
            zip(column["modality"].to_pylist(), column["view"].to_pylist(), splits, strict=True)
        )
        self.sources.update(zip(column["prompt_source"].to_pylist(), splits, strict=True))
        prompts = column["prompt"].to_pylist()
        self.words.update(len(prompt.split()) for prompt in prompts)
        self.prompts.add(hash_texts(prompts), bits)
        self.pictures.add(hash_texts(column["source_sha256"].to_pylist()), bits)
        patients = column["patient_id"].to_pylist()
        self.patients.add(hash_texts(patients), bits)
        # Study ids need not be unique across patients.
        studies = zip(patients, column["study_id"].to_pylist(), strict=True)
        self.studies.add(hash_texts("\0".join(pair) for pair in studies), bits)
        width, height = (column[name].to_numpy().astype(np.uint64) for name in ("width", "height"))
        self.sizes.add((width << np.uint64(32)) | height, bits)
        self._add_labels(column["labels"], bits)

    def _add_labels(self, labels: pa.StructArray, bits: np.ndarray) -> None:
        by_name = dict(zip((field.name for field in labels.type), labels.flatten(), strict=True))
        matrix = np.stack(
            [
                by_name[name].fill_null(_UNKNOWN).to_numpy(zero_copy_only=False)
                for name in self.label_names
            ]
        )
        if not np.isin(matrix, (PRESENT, ABSENT, UNCERTAIN, _UNKNOWN)).all():
            raise WorkError("a label has a value that is none of 1, 0, -1 and null")
        for split, bit in _BITS.items():
            chosen = matrix[:, bits == bit]
            for value, total in self.labels[split].items():
                total += (chosen == value).sum(axis=1)

    def summary(self, size: int) -> dict[str, Any]:
        """The part of the summary that is about the samples; ``size`` is the training side."""
        return {
            "by_split": self._by_split(),
            "views": self._views(),
            "prompt_sources": self._prompt_sources(),
            "labels": self._labels(),
            "sizes": _sizes(self.sizes, size),
            "prompt_words": _prompt_words(self.words),
            "studies": _number(self.studies),
            "patients": _number(self.patients)
            | {
                "in_several_splits": self.patients.num_in_several,
                "pictures_each": _pictures_each(self.patients),
            },
            "duplicates": {
                name: {
                    "distinct": len(tally.keys),
                    "samples_that_share": tally.num_repeated,
                    "in_several_splits": tally.num_in_several,
                }
                for name, tally in (("prompts", self.prompts), ("pictures", self.pictures))
            },
        }

    def _by_split(self) -> dict[str, int]:
        pictures: dict[str, int] = dict.fromkeys(SPLITS, 0)
        for (_, _, split), count in self.groups.items():
            pictures[split] += count
        return pictures

    def _views(self) -> list[dict[str, Any]]:
        rows = [
            {"modality": modality, "view": view}
            | {split: self.groups[modality, view, split] for split in SPLITS}
            for modality, view in {(modality, view) for modality, view, _ in self.groups}
        ]
        return sorted(rows, key=lambda row: (-_total(row), row["modality"], row["view"] or ""))

    def _prompt_sources(self) -> list[dict[str, Any]]:
        rows = [
            {"prompt_source": source} | {split: self.sources[source, split] for split in SPLITS}
            for source in {source for source, _ in self.sources}
        ]
        return sorted(rows, key=lambda row: (-_total(row), row["prompt_source"]))

    def _labels(self) -> list[dict[str, Any]]:
        words = {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN, "unknown": _UNKNOWN}
        return [
            {"label": name}
            | {
                split: {word: int(totals[value][index]) for word, value in words.items()}
                for split, totals in self.labels.items()
            }
            for index, name in enumerate(self.label_names)
        ]


def _batches(samples: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[pa.RecordBatch]:
    for piece in samples:
        for batch in piece.to_batches() if isinstance(piece, pa.Table) else [piece]:
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.slice(start, _ROWS)


def _count_exclusions(exclusions: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for exclusion in exclusions:
        counts[exclusion["reason"]] += 1
        examples.setdefault(exclusion["reason"], exclusion["detail"])
    rows = [
        {"reason": reason, "count": count, "example": examples[reason]}
        for reason, count in counts.items()
    ]
    return sorted(rows, key=lambda row: (-int(row["count"]), row["reason"]))


def _sizes(tally: Tally, training_size: int) -> dict[str, Any]:
    width = (tally.keys >> np.uint64(32)).astype(np.int64)
    height = (tally.keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    counts = tally.counts.astype(np.int64)
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    top = np.lexsort((height, width, -counts))[:_TOP_SIZES]
    return {
        "distinct": len(counts),
        "smaller_than_training": int(counts[shorter < training_size].sum()),
        "cropped": int(counts[4 * shorter < 3 * longer].sum()),
        "top": [
            {"width": int(width[i]), "height": int(height[i]), "count": int(counts[i])} for i in top
        ],
        "megapixels": _bins(width * height / 1e6, counts, _MEGAPIXELS),
        "aspect_ratio": _bins(width / height, counts, _ASPECTS),
    }


def _prompt_words(words: Counter[int]) -> dict[str, Any]:
    lengths = np.array(sorted(words), np.int64)
    counts = np.array([words[int(length)] for length in lengths], np.int64)
    if not len(lengths):
        return {"median": 0, "p95": 0, "max": 0, "long": 0, "bins": []}
    # The narrowest of these that shows 99 % of the prompts in twelve bars; the rest is one bar.
    reach = _quantile(lengths, counts, 0.99)
    width = next(w for w in (1, 2, 5, 10, 20, 50, 100, 200, 500, reach) if reach < 12 * w)
    edges = range(0, (reach // width + 1) * width + 1, width)
    return {
        "median": _quantile(lengths, counts, 0.5),
        "p95": _quantile(lengths, counts, 0.95),
        "max": int(lengths[-1]),
        "long": int(counts[lengths > LONG_PROMPT].sum()),
        "bins": _bins(lengths, counts, edges),
    }


def _number(tally: Tally) -> dict[str, Any]:
    by_split = {split: tally.num_with(bit) for split, bit in _BITS.items()}
    return {"all": len(tally.keys), "by_split": by_split}


def _pictures_each(patients: Tally) -> dict[str, float]:
    sizes, numbers = np.unique(patients.counts, return_counts=True)
    if not len(sizes):
        return {"mean": 0.0, "median": 0, "max": 0}
    return {
        "mean": round(float((sizes * numbers).sum() / numbers.sum()), 2),
        "median": _quantile(sizes, numbers, 0.5),
        "max": int(sizes[-1]),
    }


def _quantile(values: np.ndarray, counts: np.ndarray, share: float) -> int:
    """Nearest rank: the smallest of ascending ``values`` that ``share`` of all do not exceed."""
    reached = np.cumsum(counts)
    return int(values[np.searchsorted(reached, share * reached[-1] - 1e-9)])


def _bins(
    values: np.ndarray, counts: np.ndarray, edges: Sequence[float]
) -> list[dict[str, float | None]]:
    """Histogram of weighted values between ``edges``; the last bin is open."""
    place = np.searchsorted(np.array(edges), values, side="right") - 1
    totals = np.bincount(place, weights=counts, minlength=len(edges))
    uppers = [*edges[1:], None]
    return [
        {"from": low, "to": high, "count": int(total)}
        for low, high, total in zip(edges, uppers, totals, strict=True)
    ]


def _total(row: Mapping[str, Any]) -> int:
    return sum(int(row[split]) for split in SPLITS)
