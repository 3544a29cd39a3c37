"""The words every stage shares: samples, keys, splits, views, labels, and their Arrow schemas."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

SCHEMA_VERSION = 1
"""Version of every folder this package writes; a reader refuses another one."""

Split = Literal["train", "validate", "test"]
SPLITS: tuple[Split, ...] = ("train", "validate", "test")

CHEXPERT_LABELS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
"""The 14 columns of MIMIC-CXR's CheXpert and NegBio tables, in their order."""

PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
"""Values of a label; ``None`` means unknown, which is not absent."""

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")


def check_key(key: str) -> str:
    """Return ``key`` if it is a printable id that is also a safe relative path.

    Raises:
        ValueError: if it is empty, longer than 200 characters, or holds anything but letters,
            digits and ``. _ + -`` in parts joined by ``/``, each starting with a letter or digit.
    """
    if len(key) > 200 or not _KEY.fullmatch(key):
        raise ValueError(
            f"key {key!r} is not usable: expected up to 200 letters, digits, '.', '_', '+', '-' "
            "in parts joined by '/', each starting with a letter or digit"
        )
    return key


def safe_key(text: str) -> str:
    """Turn any text (a file name, say) into a usable key; equal texts give equal keys.

    Characters that a key cannot hold become ``-``; whoever calls this checks that two texts did
    not collide.
    """
    parts = []
    for part in text.replace("\\", "/").split("/"):
        cleaned = re.sub(r"[^A-Za-z0-9._+-]+", "-", part).lstrip("._+-")
        if cleaned:
            parts.append(cleaned)
    return check_key("/".join(parts)[:200].rstrip("/") or "item")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with its prompt and labels, before its pixels are read.

    Attributes:
        key: stable, unique, printable id; joins every table.
        patient_id: whose picture it is; splits and intervals are clustered by it.
        study_id: the examination it belongs to.
        split: ``train``, ``validate`` or ``test``.
        view: ``PA``, ``AP``, ``lateral``, …; ``None`` when unknown or meaningless.
        prompt: what the language model is given.
        prompt_source: where the prompt's text came from (``impression``, ``findings``, …).
        labels: name → 1 present, 0 absent, -1 uncertain, ``None`` unknown.
        modality: ``cxr``, ``fundus``, …
        source: path of the image relative to the dataset's root.
        text_source: path of its report relative to the reports' root; ``""`` if its text stands in
            a table. Not stored.
        edits: clean-up of the text, kind → how often it was applied. Counted, not stored.
        names: column of the source's table → the name or number in it that identifies somebody:
            replaced in the text, searched for, and not stored.
    """

    key: str
    patient_id: str
    study_id: str
    split: Split
    view: str | None
    prompt: str
    prompt_source: str
    labels: Mapping[str, int | None]
    modality: str
    source: str
    text_source: str = ""
    edits: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A source item that did not become a sample, and why.

    Attributes:
        item: the key if it has one, otherwise the source's own name for it.
        source: path relative to the dataset's root, or ``""``.
        reason: a short fixed code (``no-prompt``, ``view-not-wanted``, ``unreadable-image`` …).
        detail: one sentence for a person; never report text.
        names: as a sample's; replaced in ``item`` and ``source``, and not stored.
    """

    item: str
    source: str
    reason: str
    detail: str
    names: Mapping[str, str] = field(default_factory=dict)


def labels_type(label_names: Sequence[str]) -> pa.DataType:
    """Arrow type of the ``labels`` column: a struct of nullable int8, one field a label."""
    if not label_names:
        raise ValueError(
            "a dataset needs at least one label name; use CHEXPERT_LABELS, all unknown"
        )
    return pa.struct([pa.field(name, pa.int8(), nullable=True) for name in label_names])


def samples_schema(label_names: Sequence[str]) -> pa.Schema:
    """Arrow schema of ``samples.parquet``."""
    text = [
        "key",
        "patient_id",
        "study_id",
        "split",
        "view",
        "prompt",
        "prompt_source",
        "modality",
        "source",
        "source_sha256",
    ]
    fields = [pa.field(name, pa.string(), nullable=name == "view") for name in text]
    fields.insert(7, pa.field("labels", labels_type(label_names)))
    fields += [pa.field("width", pa.int32()), pa.field("height", pa.int32())]
    return pa.schema(fields)


def images_schema() -> pa.Schema:
    """Arrow schema of ``images/part-*.parquet``: Hugging Face's image layout, PNG bytes."""
    image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    features = (
        '{"info": {"features": {"key": {"dtype": "string", "_type": "Value"}, '
        '"image": {"_type": "Image"}}}}'
    )
    return pa.schema(
        [pa.field("key", pa.string(), nullable=False), pa.field("image", image)],
        metadata={b"huggingface": features.encode()},
    )


def sample_row(sample: Sample, *, sha256: str, width: int, height: int) -> dict[str, Any]:
    """One row of ``samples.parquet``: the sample with its source's hash and its source's size."""
    row = {
        name: getattr(sample, name)
        for name in (
            "key", "patient_id", "study_id", "split", "view", "prompt", "prompt_source",
            "modality", "source",
        )
    }  # fmt: skip
    return row | {
        "labels": dict(sample.labels),
        "source_sha256": sha256,
        "width": width,
        "height": height,
    }
