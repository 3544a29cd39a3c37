"""ARRA's own input: a JSON list of conversations whose answer is a picture.

``{"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": "<|image|>"}],
"image": [path]}``. The number of ``<|image|>`` marks must equal the number of pictures. One
picture an item is a sample. An item with several pictures becomes one exclusion a picture: its
one conversation does not say which words describe which picture. Labels are unknown throughout.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from arra_med.datasets import splits
from arra_med.datasets.base import DatasetAdapter, Picture
from arra_med.datasets.dicom import Rendering
from arra_med.datasets.paths import key_from_path, relative_source
from arra_med.datasets.pictures import read_picture
from arra_med.datasets.reports import has_words
from arra_med.errors import RequestError
from arra_med.schema import CHEXPERT_LABELS, SPLITS, Exclusion, Sample, Split

IMAGE_MARK = "<|image|>"
_PATIENT = re.compile(r"(?:^|/)p(\d{8})(?=/|$)")
_STUDY = re.compile(r"(?:^|/)s(\d{8})(?=/|$)")


@dataclass(frozen=True, kw_only=True)
class ConversationsOptions:
    """Which files to read and how.

    Attributes:
        files: split → JSON file.
        image_root: folder that picture paths are relative to; each file's own if not given.
        split_shares: cut all items anew by patient into train, validate and test.
        split_seed: key of the hash, with ``split_shares``.
        modality: of every sample.
        channels: 1 to keep pictures grey, 3 in colour.
        rendering: of DICOM files.
    """

    files: dict[Split, Path] = field(default_factory=dict)
    image_root: Path | None = None
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

    def __init__(self, options: ConversationsOptions) -> None:
        self.options = options
        self.channels = options.channels
        self._root = options.image_root or next(iter(options.files.values())).parent
        self._items: list[tuple[Split, str, Any]] = [
            (split, f"{options.files[split].name}#{index}", item)
            for split in SPLITS
            if split in options.files
            for index, item in enumerate(_read_list(options.files[split]))
        ]

    def items(self) -> Iterator[Sample | Exclusion]:
        """Items in the files' order (train, validate, test)."""
        keys: set[str] = set()
        for split, name, item in self._items:
            for found in self._convert(split, name, item):
                if isinstance(found, Sample) and found.key in keys:
                    yield _excluded(
                        name, found.source, "duplicate-key", "an earlier item has this picture"
                    )
                    continue
                if isinstance(found, Sample):
                    keys.add(found.key)
                yield found

    def read(self, sample: Sample) -> Picture:
        """Decode a sample's picture."""
        return read_picture(
            self._root / sample.source,
            channels=self.options.channels,
            rendering=self.options.rendering,
        )

    def _convert(self, split: Split, name: str, item: Any) -> Iterator[Sample | Exclusion]:  # noqa: ANN401 - any JSON value
        parsed = _parse(item)
        if parsed is None:
            yield _excluded(
                name, "", "malformed-item", "expected conversations with from and value, and image"
            )
            return
        turns, images = parsed
        marks = sum(text.count(IMAGE_MARK) for _, text in turns)
        asked = " ".join(text for who, text in turns if who == "human")
        if not images and not marks:
            yield _excluded(name, "", "text-only", "it has no picture")
        elif marks != len(images):
            detail = f"{marks} {IMAGE_MARK} marks and {len(images)} pictures"
            for source in images or [""]:
                yield _excluded(name, source, "marks-and-images-differ", detail)
        elif len(images) > 1:
            for source in images:
                detail = f"it has {len(images)} pictures and one prompt"
                yield _excluded(name, source, "several-images", detail)
        elif IMAGE_MARK in asked:
            yield _excluded(
                name, images[0], "image-is-input", "its picture is in the question, not the answer"
            )
        elif not has_words(asked):
            yield _excluded(name, images[0], "no-prompt", "its question has no words")
        else:
            yield self._sample(split, images[0], asked)

    def _sample(self, split: Split, path: str, asked: str) -> Sample | Exclusion:
        source = relative_source(self._root, path)
        if source is None:
            detail = "its path leads out of image_root"
            return _excluded(path, "", "outside-image-root", detail)
        if not (self._root / source).is_file():
            return _excluded(source, source, "missing-image", "there is no such file")
        key = key_from_path(source)
        patient, study = _PATIENT.search(source), _STUDY.search(source)
        patient_id = patient[1] if patient else key
        shares = self.options.split_shares
        if shares is not None:
            split = splits.patient_split(patient_id, shares, self.options.split_seed)
        return Sample(
            key=key,
            patient_id=patient_id,
            study_id=study[1] if study else key,
            split=split,
            view=None,
            prompt=" ".join(asked.split()),
            prompt_source="conversation",
            labels=dict.fromkeys(CHEXPERT_LABELS),
            modality=self.options.modality,
            source=source,
        )


def _read_list(path: Path) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no conversations file at {path}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not JSON in UTF-8: {error}") from error
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
