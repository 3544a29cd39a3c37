"""DeepEyeNet: retinal pictures with keywords and a clinical description.

Huang et al., DeepOpht, WACV 2021. ``DeepEyeNet_train.json``, ``_valid.json`` and ``_test.json``
name pictures relative to the folder (``eyenet0420/train_set/group41-177.jpg``). The files come in
several shapes: a list of one-entry or several-entry objects, or one plain object; keywords as text
or list; fields spelled in several ways; trailing commas. Every picture in a JSON file or on disk
becomes one sample or one exclusion.
"""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from arra_med.datasets import reports, splits
from arra_med.datasets.base import DatasetAdapter, Picture, RootOptions
from arra_med.datasets.paths import key_from_path, relative_source
from arra_med.datasets.pictures import IMAGE_SUFFIXES, read_picture
from arra_med.errors import RequestError
from arra_med.schema import SPLITS, Exclusion, Sample, Split

logger = logging.getLogger(__name__)

_FIELDS = {
    "keywords": ("keywords", "keyword", "key-words", "key-word"),
    "description": (
        "clinical-description", "clinical-descriptions", "clinicaldescription", "description",
        "descriptions", "clinical-desc", "caption",
    ),
}  # fmt: skip
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[\]}])')
_GROUP = re.compile(r"(group\d+)-\d+")


@dataclass(frozen=True, kw_only=True)
class DeepEyeNetOptions(RootOptions):
    """What to take from DeepEyeNet and how.

    Attributes:
        root: folder of the JSON files and of ``eyenet0420``.
        prompt: ``description``, ``keywords``, or ``both`` (whichever of the two there is).
        prompt_template: with a place ``{text}``.
        min_keyword_count: a keyword is a label if at least so many training items have it.
        splits: the three files as they are, or one's own by patient (siblings of one group stay
            together).
        split_shares: of train, validate and test, for ``by-patient``.
        split_seed: key of the hash, for ``by-patient``.
    """

    prompt: Literal["description", "keywords", "both"] = "description"
    prompt_template: str = "fundus image, {text}"
    min_keyword_count: int = 5
    splits: Literal["official", "by-patient"] = "official"
    split_shares: tuple[float, float, float] = (0.6, 0.2, 0.2)
    split_seed: int = 0

    def __post_init__(self) -> None:
        reports.check_template(self.prompt_template, fields=("text",))
        splits.check_shares(self.split_shares)
        if self.min_keyword_count < 1:
            raise RequestError(f"min_keyword_count must be ≥ 1, got {self.min_keyword_count}")


@dataclass(frozen=True)
class Entry:
    """One picture of a JSON file: its path, split, keywords (lower case) and description.

    ``keywords`` is ``None`` if the entry is not an object, so that nothing is known of it.
    """

    path: str
    split: Split
    keywords: tuple[str, ...] | None
    description: str


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

    def __init__(self, options: DeepEyeNetOptions) -> None:
        self.options = options
        self._entries = [
            entry
            for split, path in _json_files(options.root).items()
            for entry in read_entries(path, split)
        ]
        counts = Counter(
            keyword
            for entry in self._entries
            if self._split(entry) == "train"
            for keyword in set(entry.keywords or ())
        )
        chosen = [name for name, count in counts.items() if count >= options.min_keyword_count]
        if not chosen:
            raise RequestError(
                f"no keyword stands in {options.min_keyword_count} training items of "
                f"{options.root} (the most frequent in {max(counts.values(), default=0)}): lower "
                "min_keyword_count"
            )
        self.label_names = tuple(sorted(chosen))

    def items(self) -> Iterator[Sample | Exclusion]:
        """Entries in the files' order (train, validate, test), then pictures only on disk."""
        keys: set[str] = set()
        used: set[str] = set()
        listed: set[str] = set()
        for entry in self._entries:
            item = self._item(entry)
            listed.add(item.source)
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
        for source in _pictures_on_disk(self.options.root):
            if source not in listed:
                yield _excluded(source, source, "not-in-json", "no JSON file lists it")

    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture in colour."""
        return read_picture(self.options.root / sample.source, channels=3)

    def _item(self, entry: Entry) -> Sample | Exclusion:
        source = _find(self.options.root, entry.path)
        if source is None:
            return _excluded(entry.path, "", "missing-image", "the JSON file lists no such picture")
        if entry.keywords is None:
            return _excluded(entry.path, source, "malformed-entry", "its entry is not an object")
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
        patient = _patient(source)
        return Sample(
            key=key_from_path(source),
            patient_id=patient,
            study_id=patient,
            split=self._split(entry),
            view=None,
            prompt=self.options.prompt_template.format(text=" ".join(text.split())),
            prompt_source=prompt_source,
            labels=labels,
            modality="fundus",
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
        return splits.patient_split(_patient(entry.path), shares, seed)


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a name given twice is not lost."""


def read_entries(path: Path, split: Split) -> list[Entry]:
    """Every entry of one JSON file, whatever its shape.

    Raises:
        RequestError: if it is not JSON of a known shape.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    try:
        tree = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError:
        cleaned = _TRAILING_COMMA.sub(lambda match: match[1] or "", text)
        try:
            tree = json.loads(cleaned, object_pairs_hook=_Object)
        except json.JSONDecodeError as error:
            raise RequestError(f"{path} is not JSON: {error}") from error
        logger.warning("%s has trailing commas; they were ignored", path.name)
    objects = [tree] if isinstance(tree, _Object) else tree
    if not isinstance(objects, list) or not all(isinstance(one, _Object) for one in objects):
        raise RequestError(
            f"{path}: expected objects of picture path → keywords and clinical-description, or a "
            "list of such objects"
        )
    return [_entry(name, value, split) for one in objects for name, value in one]


def split_keywords(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - text, a list or nothing
    """Distinct keywords in lower case; commas inside brackets do not separate."""
    if isinstance(value, list):
        parts = [str(part) for part in value if part is not None]
    else:
        parts = re.split(r"[,;](?![^()]*\))", "" if value is None else str(value))
    cleaned = (" ".join(part.split()).lower() for part in parts)
    return tuple(dict.fromkeys(part for part in cleaned if part))


def _entry(name: str, value: Any, split: Split) -> Entry:  # noqa: ANN401 - any JSON value
    path = name.replace("\\", "/")
    if not isinstance(value, _Object):
        return Entry(path, split, None, "")
    fields = {re.sub(r"[\s_-]+", "-", key.strip().lower()): item for key, item in value}
    given: dict[str, Any] = {
        field: next((fields[one] for one in spellings if one in fields), None)
        for field, spellings in _FIELDS.items()
    }
    description = "" if given["description"] is None else str(given["description"])
    return Entry(path, split, split_keywords(given["keywords"]), description)


def _json_files(root: Path) -> dict[Split, Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"no DeepEyeNet folder at {root}")
    found: dict[Split, Path] = {}
    for path in sorted(root.glob("*.json")):
        split = splits.normalise_split(path.stem.rpartition("_")[2])
        if split is None:
            continue
        if split in found:
            raise RequestError(
                f"{root} holds two files for {split}: {found[split].name} and {path.name}"
            )
        found[split] = path
    if not found:
        raise FileNotFoundError(
            f"no DeepEyeNet_train.json, DeepEyeNet_valid.json or DeepEyeNet_test.json in {root}"
        )
    for split in SPLITS:
        if split not in found:
            logger.warning("no JSON file for split %s", split)
    return {split: found[split] for split in SPLITS if split in found}


def _find(root: Path, path: str) -> str | None:
    """The picture's path relative to ``root`` as it is on disk, or ``None``."""
    swapped = path.replace("/valid_set/", "/val_set/")
    for candidate in (path, swapped, swapped.partition("/")[2], f"eyenet0420/{swapped}"):
        source = relative_source(root, candidate)
        if source is not None and (root / source).is_file():
            return source
    return None


def _pictures_on_disk(root: Path) -> Iterator[str]:
    for folder, below, names in os.walk(root):
        below.sort()
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _patient(source: str) -> str:
    """Pictures ``group41-*`` are taken for one patient's; others stand for themselves."""
    stem = PurePosixPath(source).stem
    group = _GROUP.fullmatch(stem)
    return group[1] if group else stem


def _excluded(item: str, source: str, reason: str, detail: str) -> Exclusion:
    return Exclusion(item=item, source=source, reason=reason, detail=detail)
