"""The ingest stage: a dataset adapter's items to a prepared folder.

Every item the adapter finds ends as one row of ``samples.parquet`` (with its picture in
``images/``) or one line of ``excluded.jsonl``. Items stream through in parts; neither they nor
their pictures are ever all in memory. A dataset card describes the finished folder.
"""

import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arra_med.config import to_tree
from arra_med.datasets import card, privacy
from arra_med.datasets.base import DatasetAdapter
from arra_med.datasets.card.tally import hash_texts
from arra_med.datasets.decoding import (
    Decoded,
    Decoder,
    Item,
    Outcome,
    decode_in_order,
    total,
)
from arra_med.datasets.dicom_folder import fixed_part, is_folder_or_pattern
from arra_med.errors import RequestError, WorkError
from arra_med.parallel import available_cores
from arra_med.progress import Progress
from arra_med.registry import DATASETS
from arra_med.schema import SPLITS, Exclusion, images_schema, samples_schema
from arra_med.settings import Ingest
from arra_med.store import (
    MANIFEST,
    PARTIAL,
    ByteStream,
    PartWriter,
    Shard,
    TableStream,
    canonical_json,
    read_manifest,
    sha256_bytes,
    sha256_file,
    write_atomic,
)

logger = logging.getLogger(__name__)

KIND = "prepared"
_CHUNK_ROWS = 64
_IDS = frozenset(("key", "patient_id", "study_id"))


def ingest(settings: Ingest, folder: Path, *, shard: Shard | None = None) -> dict[str, Any]:
    """Write the prepared folder of a dataset, or finish one that was interrupted or sharded.

    Args:
        settings: dataset, size, crop, part size, privacy and number of worker processes; the
            content does not depend on the last.
        folder: the prepared folder.
        shard: write only this shard's parts and do not finish; a run without a shard joins them.

    Returns:
        The manifest: ``counts`` of ``found``, ``samples``, ``excluded`` and of clean-up;
        ``channels``, ``label_names``, ``samples_by_split``, ``excluded_by_reason``,
        ``patients_in_several_splits``. Of a shard, ``{}``.

    Raises:
        FileNotFoundError: if the source is not there.
        RequestError: if the folder holds other work, another process is writing it, or the
            source's items or tables changed since (what pictures and reports hold is not compared).
        WorkError: if no item became a sample, an identifier would leak, or a worker process died.
    """
    key = privacy.load_key(settings.privacy)
    adapter_class: type[DatasetAdapter] = DATASETS.get(settings.dataset.name)
    files = adapter_class.tables(settings.dataset.options)
    tables = _tables(files, folder)
    writer = PartWriter(
        folder,
        kind=KIND,
        config={
            "dataset": to_tree(settings.dataset, compared=True),
            "size": settings.size,
            "crop": settings.crop,
            "part_size": settings.part_size,
            "whitelist": settings.privacy.whitelist,
            "scan": settings.privacy.scan,
            "allow": sorted(settings.privacy.allow),
            "hashed_with": None if key is None else privacy.key_fingerprint(key),
            **({"tables": tables} if tables else {}),
        },
        sources={f"tables.{name}": path for name, path in files.items()},
        shard=shard,
    )
    if (folder / MANIFEST).is_file():
        with writer:
            logger.info("already done: %s (pictures and reports are not read again)", folder)
            return read_manifest(folder, KIND)
    adapter = adapter_class(settings.dataset.options)
    allow = frozenset(settings.privacy.allow) | adapter.pseudonymous_tags
    privacy.check_tags(settings.privacy, adapter.id_tags - allow)
    decoder = Decoder(
        adapter,
        size=settings.size,
        crop=settings.crop,
        whitelist=settings.privacy.whitelist,
        scan=settings.privacy.scan,
        allow=allow,
        key=key,
    )
    _refuse_output_in_source(settings, folder)
    with writer:
        if writer.finished:  # another process finished it in the meantime
            return read_manifest(folder, KIND)
        job = _Job(writer, adapter, decoder, settings)
        job.write_parts()
        if shard is not None:
            logger.info("shard %s is done; run without --shard to join all shards", shard)
            return {}
        return job.finish()


def _tables(files: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """SHA-256 of each table; of those that are gone, what the finished folder says."""
    known: dict[str, str] = {}
    if (folder / MANIFEST).is_file():
        known = read_manifest(folder, KIND)["config"].get("tables", {})
    found = {name: sha256_file(path) for name, path in files.items() if path.is_file()}
    return {name: known[name] for name in files if name in known} | found


class _Job:
    """One run of :func:`ingest`, once the folder is held."""

    def __init__(
        self, writer: PartWriter, adapter: DatasetAdapter, decoder: Decoder, settings: Ingest
    ) -> None:
        self.writer = writer
        self.adapter = adapter
        self.decoder = decoder
        self.settings = settings
        self.num_items = adapter.num_items()
        self.num_parts = -(-self.num_items // settings.part_size)
        self._digests: dict[int, str] = {}  # of parts that are being decoded

    def write_parts(self) -> None:
        """Write the parts that are this run's and not done yet."""
        missing = self.writer.missing(self.num_parts)
        if self.num_parts > len(missing) and self.writer.shard is None:
            done = self.num_parts - len(missing)
            logger.info("resuming: %d of %d parts are done", done, self.num_parts)
        size = self.settings.part_size
        todo = sum(min(size, self.num_items - index * size) for index in missing)
        workers = self.settings.workers
        workers = available_cores() if workers is None else workers
        outcomes = decode_in_order(self.decoder, self._wanted(), workers)
        with Progress(todo, unit="item") as progress:
            for index, part in itertools.groupby(outcomes, key=lambda pair: pair[0]):
                self._write_part(
                    index, [self._checked(index, one) for _, one in progress.over(part)]
                )

    def _wanted(self) -> Iterator[tuple[int, Item]]:
        """Every item of the parts that are wanted, with its part's number.

        Raises:
            RequestError: if a part that is done was made from other items.
        """
        found = 0
        for index, part in enumerate(_batched(self.adapter.items(), self.settings.part_size)):
            found += len(part)
            digest = sha256_bytes("\n".join(map(repr, part)).encode("utf-8", "replace"))
            done = self.writer.done(index)
            if done is not None and done["note"] != digest:
                raise RequestError(
                    f"the source changed since {self.writer.folder} was begun: delete the folder "
                    "and start again"
                )
            if self.writer.wants(index):
                self._digests[index] = digest
                yield from ((index, item) for item in part)
        if found != self.num_items:
            raise WorkError(f"the dataset adapter counted {self.num_items} items and gave {found}")

    def _write_part(self, index: int, outcomes: Sequence[Outcome]) -> None:
        samples = [outcome for outcome in outcomes if isinstance(outcome, Decoded)]
        excluded = [outcome for outcome in outcomes if isinstance(outcome, Exclusion)]
        if any(sample.leaks for sample in samples):
            self._refuse_leaks(index, samples)
        watch = self._watch()
        for sample in samples:
            watch.add(sample.identifiers, self.decoder.allow)
        pictures = [
            {"key": sample.row["key"], "image": {"bytes": sample.png, "path": None}}
            for sample in samples
        ]
        rows = [sample.row for sample in samples]
        schema = samples_schema(self.adapter.label_names)
        self.writer.write_part(
            index,
            {
                f"images/part-{index:05d}.parquet": TableStream(
                    images_schema(),
                    _chunks(pa.Table.from_pylist(pictures, images_schema())),
                    packed=False,
                ),
                _scratch("samples", index, "parquet"): pa.Table.from_pylist(rows, schema=schema),
                _scratch("excluded", index, "jsonl"): "".join(map(_json_line, excluded)).encode(
                    "utf-8",
                    "backslashreplace",  # file names may hold bytes that are not Unicode
                ),
                _scratch("watch", index, "json"): canonical_json(watch.to_json()).encode(),
            },
            {
                "found": len(outcomes),
                "samples": len(samples),
                "excluded": len(excluded),
                **total(sample.edits for sample in samples),
            },
            note=self._digests.pop(index),
        )

    def _checked(self, index: int, outcome: Outcome) -> Outcome:
        """Refuse ids that are a header's at the first picture: those of all others will be, too.

        Raises:
            WorkError: with everything of this picture's header that stands in its row.
        """
        if isinstance(outcome, Decoded) and any(leak.where in _IDS for leak in outcome.leaks):
            self._refuse_leaks(index, [outcome])
        return outcome

    def _refuse_leaks(self, index: int, samples: Sequence[Decoded]) -> NoReturn:
        found = [one for s in samples for one in privacy.findings.of_row(s.row, s.leaks)]
        leaks = [leak for sample in samples for leak in sample.leaks]
        self._refuse(leaks, found, _scratch("identifiers", index, "csv"))

    def _refuse(
        self, leaks: Sequence[privacy.Leak], found: Iterable[privacy.findings.Finding], name: str
    ) -> NoReturn:
        table = self.writer.folder / name
        write_atomic(table, privacy.findings.as_csv(found))
        raise WorkError(privacy.leak_message(leaks, table))

    def finish(self) -> dict[str, Any]:
        """Join the parts, describe them, search them for identifiers, write the manifest."""
        marks = [self.writer.done(index) for index in range(self.num_parts)]
        counts = total(mark["counts"] for mark in marks if mark is not None)
        reasons: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for exclusion in self._exclusions():
            reasons[exclusion["reason"]] += 1
            examples.setdefault(exclusion["reason"], exclusion["detail"])
        found, samples, excluded = (counts.get(n, 0) for n in ("found", "samples", "excluded"))
        assert samples + excluded == found == self.num_items, "samples + excluded = found"
        for reason, number in reasons.most_common():
            logger.info("excluded: %d %s; the first: %s", number, reason, examples[reason])
        if excluded and samples:
            logger.info("each is listed in the folder's excluded.jsonl")
        if samples == 0:
            write_atomic(self.writer.partial / "excluded.jsonl", self._excluded_lines())
            message = self._nothing_message(reasons)
            self.writer.forget()
            raise WorkError(message)
        self._refuse_duplicates()
        summary = card.summarise(
            self._tables(),
            self._exclusions(),
            counts=counts,
            edits={name: counts[name] for name in counts if "." in name},
            config=self.writer.config,
            label_names=self.adapter.label_names,
        )
        for text in card.grave_warnings(summary):
            logger.warning("%s", text)
        manifest = self.writer.finish(
            self.num_parts,
            {
                "samples.parquet": TableStream(
                    samples_schema(self.adapter.label_names), self._tables()
                ),
                "excluded.jsonl": self._excluded_lines(),
                "card.json": card.card_json(summary),
                "README.md": card.card_markdown(summary),
                "contact-sheet.png": self._contact_sheet(),
            },
            summary={
                "channels": self.adapter.channels,
                "label_names": list(self.adapter.label_names),
                "samples_by_split": {s: summary["by_split"].get(s, 0) for s in SPLITS},
                "excluded_by_reason": dict(reasons),
                "patients_in_several_splits": summary["patients"]["in_several_splits"],
            },
            check=self._scan if self.settings.privacy.scan else None,
        )
        logger.info("%d samples, %d excluded of %d", samples, excluded, found)
        return manifest

    def _tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        for index in range(self.num_parts):
            yield pq.read_table(self._part("samples", index, "parquet"), columns=columns)

    def _exclusions(self) -> Iterator[dict[str, str]]:
        for index in range(self.num_parts):
            for line in self._part("excluded", index, "jsonl").read_bytes().splitlines():
                yield json.loads(line)

    def _excluded_lines(self) -> ByteStream:
        return ByteStream(
            self._part("excluded", index, "jsonl").read_bytes() for index in range(self.num_parts)
        )

    def _contact_sheet(self) -> bytes:
        keys = card.contact_sheet_keys(self._tables(["modality", "view", "key"]))
        wanted = [key for row in keys.values() for key in row]
        parts = [
            self.writer.folder / f"images/part-{index:05d}.parquet"
            for index in range(self.num_parts)
        ]
        pngs = card.find_pictures(parts, wanted)
        return card.contact_sheet({name: [pngs[key] for key in row] for name, row in keys.items()})

    def _refuse_duplicates(self) -> None:
        digests = np.concatenate(
            [hash_texts(table["key"].to_pylist()) for table in self._tables(["key"])]
        )
        repeated = len(digests) - len(np.unique(digests))
        if repeated:
            raise WorkError(f"the dataset adapter gave {repeated} keys twice")

    def _watch(self) -> privacy.Watch:
        # The salt only keeps the scratch files from holding hashes that others could look up.
        return privacy.Watch(canonical_json(self.writer.config).encode())

    def _scan(self) -> None:
        watch = self._watch()
        for index in range(self.num_parts):
            path = self._part("watch", index, "json")
            watch.merge(privacy.Watch.from_json(json.loads(path.read_text(encoding="utf-8"))))
        leaks = privacy.scan_folder(self.writer.folder, watch)
        if leaks:
            found = privacy.findings.in_folder(self.writer.folder, leaks, watch)
            self._refuse(leaks, found, f"{PARTIAL}/identifiers.csv")

    def _part(self, name: str, index: int, suffix: str) -> Path:
        return self.writer.folder / _scratch(name, index, suffix)

    def _nothing_message(self, reasons: Counter[str]) -> str:
        listed = ", ".join(f"{reason}: {n}" for reason, n in reasons.most_common())
        first = next(self._exclusions(), None)
        example = "" if first is None else f" The first: {first['item']}: {first['detail']}."
        return (
            f"none of {self.num_items} items became a sample ({listed or 'no items'}).{example} "
            f"All are listed in {self.writer.partial / 'excluded.jsonl'}"
        )


def _refuse_output_in_source(settings: Ingest, folder: Path) -> None:
    """A source that is walked would find our own files the next time."""
    for name in ("root", "file", "reports"):
        given = getattr(settings.dataset.options, name, None)
        if given is None or not is_folder_or_pattern(given):
            continue
        source = given if given.is_dir() else fixed_part(given)
        if folder.absolute().is_relative_to(source.absolute()):
            raise RequestError(
                f"{folder} lies inside the source {source}: choose a paths.output outside it"
            )


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items; Python 3.12 has it as ``itertools.batched``."""
    rest = iter(items)
    while part := list(itertools.islice(rest, size)):
        yield part


def _chunks(table: pa.Table) -> Iterator[pa.Table]:
    """Few rows at a time, so that a reader need not hold a whole part's pictures."""
    for start in range(0, table.num_rows, _CHUNK_ROWS):
        yield table.slice(start, _CHUNK_ROWS)


def _scratch(name: str, index: int, suffix: str) -> str:
    return f"{PARTIAL}/{name}-{index:05d}.{suffix}"


def _json_line(exclusion: Exclusion) -> str:
    line = {name: getattr(exclusion, name) for name in ("item", "source", "reason", "detail")}
    return json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n"
