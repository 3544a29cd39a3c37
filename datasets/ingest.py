"""The ingest stage: a dataset adapter's items to a prepared folder.

Every item the adapter finds ends as one row of ``samples.parquet`` (with its picture in
``images/``) or one line of ``excluded.jsonl``.
"""

import dataclasses
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from arra_med.config import to_tree
from arra_med.datasets.base import DatasetAdapter
from arra_med.datasets.decoding import Decoded, decode_in_order
from arra_med.errors import RequestError, WorkError
from arra_med.registry import DATASETS
from arra_med.schema import SPLITS, Exclusion, Sample, images_schema, samples_schema
from arra_med.settings import Ingest
from arra_med.store import (
    MANIFEST,
    PARTIAL,
    PartWriter,
    read_manifest,
    sha256_bytes,
    write_atomic,
)

logger = logging.getLogger(__name__)

KIND = "prepared"
_ITEMS = "items.sha256"

Item = Sample | Exclusion


def ingest(settings: Ingest, folder: Path) -> dict[str, Any]:
    """Write the prepared folder of a dataset, or finish one that was interrupted.

    Args:
        settings: dataset, size, crop, part size and number of worker processes; the content does
            not depend on the last.
        folder: the prepared folder.

    Returns:
        The manifest: ``counts`` of ``found``, ``samples`` and ``excluded``; ``channels``,
        ``label_names``, ``samples_by_split``, ``excluded_by_reason``,
        ``patients_in_several_splits``.

    Raises:
        FileNotFoundError: if the source is not there.
        RequestError: if the folder holds other work, another process is writing it, or the source
            changed since the interrupted run.
        WorkError: if no item became a sample, or a worker process died.
    """
    writer = PartWriter(
        folder,
        kind=KIND,
        config={
            "dataset": to_tree(settings.dataset),
            "size": settings.size,
            "crop": settings.crop,
            "part_size": settings.part_size,
        },
    )
    if (folder / MANIFEST).is_file():
        with writer:
            logger.info("already done: %s", folder)
            return read_manifest(folder, KIND)
    adapter: DatasetAdapter = DATASETS.get(settings.dataset.name)(settings.dataset.options)
    items = [_storable(item) for item in adapter.items()]
    _check_items(items)
    parts = [
        items[start : start + settings.part_size]
        for start in range(0, len(items), settings.part_size)
    ]
    with writer:
        if (folder / MANIFEST).is_file():  # another process finished it in the meantime
            return read_manifest(folder, KIND)
        _refuse_changed_source(writer, items)
        _write_parts(writer, parts, adapter, settings)
        return _finish(writer, len(parts), len(items), adapter)


def _storable(item: Item) -> Item:
    """The item, or an exclusion if half of a surrogate pair keeps its text from being stored."""
    if isinstance(item, Exclusion):
        return item
    try:
        "".join((item.prompt, item.source, item.patient_id, item.study_id)).encode()
    except UnicodeEncodeError:
        return Exclusion(
            item=item.key, source="", reason="not-unicode", detail="its text is not valid Unicode"
        )
    return item


def _check_items(items: Sequence[Item]) -> None:
    keys = Counter(item.key for item in items if isinstance(item, Sample))
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise WorkError(f"the dataset adapter gave {len(twice)} keys twice, first {twice[0]!r}")
    if not keys:
        reasons = Counter(item.reason for item in items if isinstance(item, Exclusion))
        raise WorkError(
            f"none of {len(items)} items can become a sample "
            f"({', '.join(f'{reason}: {n}' for reason, n in reasons.most_common()) or 'no items'})"
        )


def _refuse_changed_source(writer: PartWriter, items: Sequence[Item]) -> None:
    """Parts of an interrupted run fit only if the source still holds the same items."""
    digest = sha256_bytes("\n".join(repr(item) for item in items).encode("utf-8", "replace"))
    path = writer.partial / _ITEMS
    if not path.is_file():
        write_atomic(path, digest.encode())
    elif path.read_text() != digest:
        raise RequestError(
            f"the source changed since {writer.folder} was begun: delete the folder and start again"
        )


def _write_parts(
    writer: PartWriter,
    parts: Sequence[Sequence[Item]],
    adapter: DatasetAdapter,
    settings: Ingest,
) -> None:
    missing = writer.missing(len(parts))
    waiting = [item for index in missing for item in parts[index] if isinstance(item, Sample)]
    done = sum(map(len, parts)) - sum(len(parts[index]) for index in missing)
    if done:
        logger.info("resuming: %d of %d parts are done", len(parts) - len(missing), len(parts))
    decoded = decode_in_order(adapter, waiting, settings)
    with tqdm(total=sum(map(len, parts)), initial=done, unit="item", disable=None) as progress:
        for index in missing:
            outcomes: list[Decoded | Exclusion] = []
            for item in parts[index]:
                outcomes.append(item if isinstance(item, Exclusion) else next(decoded))
                progress.update()
            _write_part(writer, index, outcomes, adapter.label_names)


def _write_part(
    writer: PartWriter,
    index: int,
    outcomes: Sequence[Decoded | Exclusion],
    label_names: Sequence[str],
) -> None:
    samples = [outcome for outcome in outcomes if isinstance(outcome, Decoded)]
    excluded = [outcome for outcome in outcomes if isinstance(outcome, Exclusion)]
    pictures = [
        {"key": sample.row["key"], "image": {"bytes": sample.png, "path": None}}
        for sample in samples
    ]
    writer.write_part(
        index,
        {
            f"images/part-{index:05d}.parquet": pa.Table.from_pylist(
                pictures, schema=images_schema()
            ),
            _scratch("samples", index, "parquet"): pa.Table.from_pylist(
                [sample.row for sample in samples], schema=samples_schema(label_names)
            ),
            _scratch("excluded", index, "jsonl"): "".join(map(_json_line, excluded)).encode(
                "utf-8",
                "backslashreplace",  # file names may hold bytes that are not Unicode
            ),
        },
        {"found": len(outcomes), "samples": len(samples), "excluded": len(excluded)},
    )


def _finish(
    writer: PartWriter, num_parts: int, num_items: int, adapter: DatasetAdapter
) -> dict[str, Any]:
    table = pa.concat_tables(
        pq.read_table(writer.folder / _scratch("samples", index, "parquet"))
        for index in range(num_parts)
    )
    lines = b"".join(
        (writer.folder / _scratch("excluded", index, "jsonl")).read_bytes()
        for index in range(num_parts)
    )
    reasons = Counter(json.loads(line)["reason"] for line in lines.splitlines())
    assert table.num_rows + reasons.total() == num_items, "samples + excluded = found"
    if table.num_rows == 0:
        raise WorkError(
            f"no picture of {num_items} items could be read "
            f"({', '.join(f'{reason}: {n}' for reason, n in reasons.most_common())})"
        )
    splits = Counter(table["split"].to_pylist())
    shared = _patients_in_several_splits(table)
    if shared:
        logger.warning("%d patients have pictures in more than one split", shared)
    manifest = writer.finish(
        num_parts,
        {"samples.parquet": table, "excluded.jsonl": lines},
        summary={
            "channels": adapter.channels,
            "label_names": list(adapter.label_names),
            "samples_by_split": {split: splits[split] for split in SPLITS},
            "excluded_by_reason": dict(reasons),
            "patients_in_several_splits": shared,
        },
    )
    logger.info("%d samples, %d excluded of %d", table.num_rows, reasons.total(), num_items)
    return manifest


def _patients_in_several_splits(table: pa.Table) -> int:
    splits_of: dict[str, set[str]] = defaultdict(set)
    for patient, split in zip(
        table["patient_id"].to_pylist(), table["split"].to_pylist(), strict=True
    ):
        splits_of[patient].add(split)
    return sum(len(splits) > 1 for splits in splits_of.values())


def _scratch(name: str, index: int, suffix: str) -> str:
    return f"{PARTIAL}/{name}-{index:05d}.{suffix}"


def _json_line(exclusion: Exclusion) -> str:
    return json.dumps(dataclasses.asdict(exclusion), sort_keys=True, ensure_ascii=False) + "\n"
