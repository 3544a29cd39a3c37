"""DeepEyeNet: retinal pictures with keywords and a clinical description.

Huang et al., DeepOpht, WACV 2021. ``DeepEyeNet_train.json``, ``_valid.json`` and ``_test.json``
name pictures relative to the folder (``eyenet0420/train_set/group41-177.jpg``). Every picture in a
JSON file or on disk becomes one sample or one exclusion.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from arra_med.datasets import reports, splits
from arra_med.datasets.base import (
    DatasetAdapter,
    Excluded,
    Picture,
    RootOptions,
    UnreadableImage,
)
from arra_med.datasets.deepeyenet_entries import Entry, json_files, patient_of, read_entries
from arra_med.datasets.deepeyenet_modality import (
    MODALITIES,
    Modality,
    modality_from_text,
    modality_of,
    redness,
)
from arra_med.datasets.paths import key_from_path, relative_source, walk_files
from arra_med.datasets.pictures import IMAGE_SUFFIXES, read_picture
from arra_med.datasets.plain_text import plain_text
from arra_med.errors import RequestError
from arra_med.schema import SPLITS, Exclusion, Sample, Split

logger = logging.getLogger(__name__)

_UNDECIDED = "unknown"  # a sample's modality until its picture was seen


@dataclass(frozen=True, kw_only=True)
class DeepEyeNetOptions(RootOptions):
    """What to take from DeepEyeNet and how.

    Attributes:
        root: folder of the JSON files and of ``eyenet0420``.
        modalities: colour photographs (``fundus``), ``angiography``, or both; see
            :mod:`arra_med.datasets.deepeyenet_modality`.
        prompt: ``description``, ``keywords``, or ``both`` (whichever of the two there is).
        prompt_template: of colour photographs, with a place ``{text}``.
        angiography_template: of angiograms.
        min_keyword_count: a keyword is a label if at least so many training items have it.
        splits: the three files as they are, or one's own by patient (siblings of one group stay
            together).
        split_shares: of train, validate and test, for ``by-patient``.
        split_seed: key of the hash, for ``by-patient``.
    """

    modalities: tuple[Modality, ...] = MODALITIES
    prompt: Literal["description", "keywords", "both"] = "description"
    prompt_template: str = "fundus image, {text}"
    angiography_template: str = "fundus angiography image, {text}"
    min_keyword_count: int = 5
    splits: Literal["official", "by-patient"] = "official"
    split_shares: tuple[float, float, float] = (0.6, 0.2, 0.2)
    split_seed: int = 0

    def __post_init__(self) -> None:
        for template in (self.prompt_template, self.angiography_template):
            reports.check_template(template, fields=("text",))
        splits.check_shares(self.split_shares)
        if not self.modalities:
            raise RequestError(f"modalities must name one or both of {', '.join(MODALITIES)}")
        if self.min_keyword_count < 1:
            raise RequestError(f"min_keyword_count must be ≥ 1, got {self.min_keyword_count}")


class DeepEyeNet(DatasetAdapter):
    """Adapter of DeepEyeNet.

    Args:
        options: see :class:`DeepEyeNetOptions`.

    Raises:
        FileNotFoundError: if the folder or its JSON files are not there.
        RequestError: if a file is not of a known shape, or no keyword is frequent enough.
    """

    Options = DeepEyeNetOptions
    channels = 3

    @classmethod
    def tables(cls, options: DeepEyeNetOptions) -> dict[str, Path]:
        """The JSON file of each split."""
        try:
            return {str(split): path for split, path in json_files(options.root).items()}
        except FileNotFoundError:  # said when they are opened; a finished folder needs them no more
            return {str(split): options.root / f"{split}.json" for split in SPLITS}

    def __init__(self, options: DeepEyeNetOptions) -> None:
        self.options = options
        files = json_files(options.root)
        for split in SPLITS:
            if split not in files:
                logger.warning("no JSON file for split %s", split)
        self._last: tuple[str, float] | None = None  # picture read last, and its redness
        entries = [entry for split, path in files.items() for entry in read_entries(path, split)]
        self.label_names = self._vocabulary(entries)
        on_disk = list(walk_files(options.root))
        there = set(on_disk)
        # With the path of its picture as it is on disk, "" if there is none.
        self._entries = [(entry, _find(there, options.root, entry.path)) for entry in entries]
        listed = {source for _, source in self._entries}
        self._unlisted = [
            name for name in on_disk if name.lower().endswith(IMAGE_SUFFIXES) and name not in listed
        ]
        texts = Counter(entry.text for entry in entries)
        self._shared = {text for text, count in texts.items() if count > 1}
        self._report_separated()

    def __getstate__(self) -> dict[str, Any]:
        """Without the entries, which a worker process does not need."""
        left = ("_entries", "_unlisted", "_shared")
        return {name: value for name, value in vars(self).items() if name not in left}

    def num_items(self) -> int:
        """Entries of the files, and pictures only on disk."""
        return len(self._entries) + len(self._unlisted)

    def items(self) -> Iterator[Sample | Exclusion]:
        """Entries in the files' order (train, validate, test), then pictures only on disk."""
        keys: set[str] = set()
        used: set[str] = set()
        for entry, source in self._entries:
            item = self._item(entry, source)
            if isinstance(item, Sample) and item.source in used:
                detail = "an earlier entry lists this picture"
                item = _excluded(entry.path, item.source, "duplicate-image", detail)
            elif isinstance(item, Sample) and item.key in keys:
                detail = "a picture with the same name and another suffix has this key"
                item = _excluded(entry.path, item.source, "duplicate-key", detail)
            if isinstance(item, Sample):
                keys.add(item.key)
                used.add(item.source)
            yield item
        for source in self._unlisted:
            yield _excluded(source, source, "not-in-json", "no JSON file lists it")
        if self._entries and not any(source for _, source in self._entries):
            logger.warning("no picture of the JSON files lies below %s", self.options.root)

    def complete(self, sample: Sample, redact: Callable[[str], str]) -> Sample:
        """Settle the modality, with the picture if need be, and make the prompt."""
        named = next((one for one in MODALITIES if one == sample.modality), None)
        modality = modality_of(named, self._redness(sample))
        if modality not in self.options.modalities:
            raise Excluded("modality-not-wanted", f"its modality is {modality}")
        text, undone = plain_text(sample.prompt)
        text = redact(text)
        if not reports.has_words(text):
            raise Excluded("no-prompt", "its text has no words once identifiers are removed")
        options = self.options
        template = options.prompt_template if modality == "fundus" else options.angiography_template
        prompt = template.format(text=" ".join(text.split()))
        return replace(sample, prompt=prompt, modality=modality, edits=undone)

    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture in colour."""
        picture = read_picture(self.options.root / sample.source, channels=3)
        self._last = (sample.source, redness(picture.pixels))
        return picture

    def _redness(self, sample: Sample) -> float:
        if self._last is None or self._last[0] != sample.source:
            try:
                self.read(sample)
            except UnreadableImage as error:
                raise Excluded("unreadable-image", str(error)) from error
        assert self._last is not None, "read() remembers the picture"
        return self._last[1]

    def _item(self, entry: Entry, source: str) -> Sample | Exclusion:
        if not source:
            return _excluded(entry.path, "", "missing-image", "its entry names no picture on disk")
        if entry.keywords is None:
            detail = "its entry is not an object of texts"
            return _excluded(entry.path, source, "malformed-entry", detail)
        text, prompt_source = self._prompt(entry)
        if not reports.has_words(text):
            wanted = {"both": "neither description nor keywords"}.get(
                self.options.prompt, f"no {self.options.prompt}"
            )
            return _excluded(entry.path, source, "no-prompt", f"its entry has {wanted}")
        labels = {
            name: (int(name in entry.keywords) if entry.keywords else None)
            for name in self.label_names
        }
        named = None if entry.text in self._shared else modality_from_text(entry.text)
        patient = key_from_path(patient_of(source))
        return Sample(
            key=key_from_path(source),
            patient_id=patient,
            study_id=patient,
            split=self._split(entry),
            view=None,
            prompt=text,
            prompt_source=prompt_source,
            labels=labels,
            modality=named or _UNDECIDED,
            source=source,
        )

    def _prompt(self, entry: Entry) -> tuple[str, str]:
        texts = {"keywords": ", ".join(entry.keywords or ()), "description": entry.description}
        if self.options.prompt != "both":
            return texts[self.options.prompt], self.options.prompt
        given = {name: text for name, text in texts.items() if reports.has_words(text)}
        return ". ".join(given.values()), "+".join(given)

    def _split(self, entry: Entry) -> Split:
        if self.options.splits == "official":
            return entry.split
        shares, seed = self.options.split_shares, self.options.split_seed
        return splits.patient_split(patient_of(entry.path), shares, seed)

    def _vocabulary(self, entries: list[Entry]) -> tuple[str, ...]:
        counts = Counter(
            keyword
            for entry in entries
            if self._split(entry) == "train"
            for keyword in set(entry.keywords or ())
        )
        least = self.options.min_keyword_count
        chosen = [name for name, count in counts.items() if count >= least]
        if not chosen:
            raise RequestError(
                f"no keyword stands in {least} training items of {self.options.root} (the most "
                f"frequent in {max(counts.values(), default=0)}): lower min_keyword_count"
            )
        return tuple(sorted(chosen))

    def _report_separated(self) -> None:
        """Say how many patients the official split tears apart."""
        splits_of: defaultdict[str, set[Split]] = defaultdict(set)
        for entry, source in self._entries:
            if source:
                splits_of[patient_of(source)].add(self._split(entry))
        torn = sum(len(found) > 1 for found in splits_of.values())
        if torn:
            logger.warning(
                "the official split separates pictures of %d patients (of %d): what is learnt "
                "from some is tested on others. Set splits: by-patient to keep them together",
                torn,
                len(splits_of),
            )


def _find(there: set[str], root: Path, path: str) -> str:
    """The picture's path relative to ``root`` as it is on disk, or ``""``."""
    swapped = path.replace("/valid_set/", "/val_set/")
    for candidate in (path, swapped, swapped.partition("/")[2], f"eyenet0420/{swapped}"):
        source = relative_source(root, candidate)
        if source is not None and source in there:
            return source
    return ""


def _excluded(item: str, source: str, reason: str, detail: str) -> Exclusion:
    return Exclusion(item=item, source=source, reason=reason, detail=detail)
