"""ARRA's own input: a JSON list of conversations whose answer is a picture.

``{"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": "<|image|>"}],
"image": [path]}``. The number of ``<|image|>`` marks must equal the number of pictures. An item
with several pictures is one sample a picture, all with its prompt, or excluded. Labels are unknown
throughout. :mod:`arra_med.datasets.conversations_write` writes such files, with a few more fields
(``patient_id``, ``study_id``, ``view``) that are read here where an item with one picture has them.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from arra_med.datasets import splits
from arra_med.datasets.base import DatasetAdapter, Excluded, Identifier, Picture
from arra_med.datasets.dicom import Rendering
from arra_med.datasets.paths import is_file, key_from_path, relative_source
from arra_med.datasets.pictures import header_identifiers, read_picture
from arra_med.datasets.plain_text import plain_text
from arra_med.datasets.reports import has_words
from arra_med.datasets.tables import says_no_value
from arra_med.errors import RequestError
from arra_med.schema import CHEXPERT_LABELS, SPLITS, Exclusion, Sample, Split

IMAGE_MARK = "<|image|>"
EXTRA_FIELDS = ("patient_id", "study_id", "view")
"""Fields that ARRA's files do not have and that our own add."""
_OF_THE_ITEM = ("patient_id", "study_id")
"""Those that hold for all of an item's pictures; a view is one picture's."""

_PATIENT = re.compile(r"(?:^|/)p(\d{8})(?=/|$)")
_STUDY = re.compile(r"(?:^|/)s(\d{8})(?=/|$)")


@dataclass(frozen=True, kw_only=True)
class ConversationsOptions:
    """Which files to read and how.

    Attributes:
        files: split → JSON file.
        image_root: folder that picture paths are relative to; each file's own if not given.
        several_images: an item with several pictures gives one sample ``each``, or none.
        split_shares: cut all items anew by patient into train, validate and test.
        split_seed: key of the hash, with ``split_shares``.
        modality: of every sample.
        channels: 1 to keep pictures grey, 3 in colour.
        rendering: of DICOM files.
    """

    files: dict[Split, Path] = field(default_factory=dict)
    image_root: Path | None = None
    several_images: Literal["each", "exclude"] = "each"
    split_shares: tuple[float, float, float] | None = None
    split_seed: int = 0
    modality: str = "cxr"
    channels: Literal[1, 3] = 1
    rendering: Rendering = "clinical"

    def __post_init__(self) -> None:
        if not self.files:
            raise RequestError("files must name at least one JSON file, such as {train: a.json}")
        folders = {path.parent for path in self.files.values()}
        if self.image_root is None and len(folders) > 1:
            raise RequestError("the JSON files lie in several folders: give image_root")
        if self.split_shares is not None:
            splits.check_shares(self.split_shares)


@dataclass(frozen=True)
class Asked:
    """One picture of one item, or an item without any.

    Attributes:
        source: the picture's path as the item gives it.
        prompt: what the human says.
        problem: reason and sentence if it can become no sample.
        extra: our own additional fields.
        item: the first of the item's pictures, whose patient all of them are.
    """

    source: str = ""
    prompt: str = ""
    problem: tuple[str, str] | None = None
    extra: tuple[tuple[str, str], ...] = ()
    item: str = ""


class Conversations(DatasetAdapter):
    """Adapter of ARRA's conversations JSON.

    Args:
        options: see :class:`ConversationsOptions`.

    Raises:
        FileNotFoundError: if a file is not there.
        RequestError: if a file is not a JSON list.
    """

    Options = ConversationsOptions
    label_names = CHEXPERT_LABELS

    @classmethod
    def tables(cls, options: ConversationsOptions) -> dict[str, Path]:
        """The JSON file of each split."""
        return {str(split): path for split, path in options.files.items()}

    def __init__(self, options: ConversationsOptions) -> None:
        self.options = options
        self.channels = options.channels
        self._root = options.image_root or next(iter(options.files.values())).parent
        # Parsed JSON takes several times its size: it is read again for items(), not kept.
        self._num_items = sum(1 for _ in self._asked())

    def num_items(self) -> int:
        """Pictures of all items, and items without one."""
        return self._num_items

    def items(self) -> Iterator[Sample | Exclusion]:
        """Items in the files' order (train, validate, test)."""
        keys: set[str] = set()
        for split, name, asked in self._asked():
            found = self._sample(split, name, asked)
            if isinstance(found, Sample) and found.key in keys:
                detail = "an earlier item has this picture"
                found = _excluded(name, found.source, "duplicate-key", detail)
            if isinstance(found, Sample):
                keys.add(found.key)
            yield found

    def complete(self, sample: Sample, redact: Callable[[str], str]) -> Sample:
        """Make the prompt: what the human says, on one line."""
        text, undone = plain_text(sample.prompt)
        prompt = " ".join(redact(text).split())
        if not has_words(prompt):
            raise Excluded("no-prompt", "its question has no words once identifiers are removed")
        return replace(sample, prompt=prompt, edits=undone)

    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture."""
        return read_picture(
            self._root / sample.source,
            channels=self.options.channels,
            rendering=self.options.rendering,
        )

    def identifiers(self, source: str) -> tuple[Identifier, ...]:
        """See :func:`arra_med.datasets.pictures.header_identifiers`."""
        return header_identifiers(self._root / source)

    def _asked(self) -> Iterator[tuple[Split, str, Asked]]:
        files = self.options.files
        for split in SPLITS:
            if split in files:
                for index, item in enumerate(_read_list(files[split])):
                    for asked in read_item(item, self.options.several_images):
                        yield split, f"{files[split].name}#{index}", asked

    def _sample(self, split: Split, name: str, asked: Asked) -> Sample | Exclusion:
        if asked.problem is not None:
            return _excluded(name, asked.source, *asked.problem)
        source = relative_source(self._root, asked.source)
        if source is None:
            detail = "its path leads out of image_root"
            return _excluded(name, "", "outside-image-root", detail)
        if not is_file(self._root / source):
            return _excluded(name, source, "missing-image", "there is no such file")
        patient, study = _PATIENT.search(source), _STUDY.search(source)
        extra = dict(asked.extra)
        own = key_from_path(relative_source(self._root, asked.item) or asked.item)
        patient_id = extra.get("patient_id") or (patient[1] if patient else own)
        shares = self.options.split_shares
        if shares is not None:
            split = splits.patient_split(patient_id, shares, self.options.split_seed)
        return Sample(
            key=key_from_path(source),
            patient_id=patient_id,
            study_id=extra.get("study_id") or (study[1] if study else own),
            split=split,
            view=extra.get("view"),
            prompt=asked.prompt,
            prompt_source="conversation",
            labels=dict.fromkeys(CHEXPERT_LABELS),
            modality=self.options.modality,
            source=source,
        )


def read_item(item: Any, several_images: Literal["each", "exclude"] = "each") -> list[Asked]:  # noqa: ANN401 - any JSON value
    """An item's pictures, each with its prompt or with what is wrong; never an empty list."""
    parsed = _parse(item)
    if parsed is None:
        detail = "expected conversations with from and value, and image"
        return [Asked(problem=("malformed-item", detail))]
    turns, images = parsed
    marks = sum(text.count(IMAGE_MARK) for _, text in turns)
    asked = " ".join(text for who, text in turns if who == "human")
    problem = None
    if not images and not marks:
        problem = ("text-only", "it has no picture")
    elif marks != len(images):
        detail = f"{marks} {IMAGE_MARK} marks and {len(images)} pictures"
        problem = ("marks-and-images-differ", detail)
    elif IMAGE_MARK in asked:
        detail = "a picture is in the question, not in the answer"
        problem = ("image-is-input", detail)
    elif len(images) > 1 and several_images == "exclude":
        problem = ("several-images", f"it has {len(images)} pictures and one prompt")
    elif not has_words(asked):
        problem = ("no-prompt", "its question has no words")
    known = EXTRA_FIELDS if len(images) == 1 else _OF_THE_ITEM
    given = {name: _id(item.get(name)) for name in known}
    given = {name: value for name, value in given.items() if value is not None}
    odd = [name for name, value in given.items() if type(value) is not str]
    if odd:
        problem = ("malformed-item", f"its {' and '.join(odd)} is neither text nor a whole number")
    extra = tuple((name, str(value)) for name, value in given.items())
    prompt = asked if problem is None else ""
    sources = images or [""]
    return [Asked(source, prompt, problem, extra, sources[0]) for source in sources]


def _id(value: object) -> object:
    """A value as text: ``1000.0``, as tables of numbers are written, is ``1000``; an empty one is
    ``None``; what is neither text nor a whole number stays what it is."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, str) and says_no_value(value)):
        return None
    return str(value) if type(value) is int else value


def _read_list(path: Path) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no conversations file at {path}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        # A decoding error's own text names the place; its document is not quoted.
        where = error if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RequestError(f"{path} is not JSON in UTF-8: {where}") from error
    if not isinstance(tree, list):
        raise RequestError(f"{path}: expected a list of items, found {type(tree).__name__}")
    return tree


def _parse(item: Any) -> tuple[list[tuple[str, str]], list[str]] | None:  # noqa: ANN401 - any JSON value
    """``(turns, picture paths)`` of an item; ``None`` if it is not of ARRA's shape."""
    if not isinstance(item, dict) or not isinstance(item.get("conversations"), list):
        return None
    turns = []
    for turn in item["conversations"]:
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            return None
        turns.append((str(turn.get("from")), turn["value"]))
    images = item.get("image") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(path, str) for path in images):
        return None
    return turns, images


def _excluded(item: str, source: str, reason: str, detail: str) -> Exclusion:
    return Exclusion(item=item, source=source, reason=reason, detail=detail)
