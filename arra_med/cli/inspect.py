"""Verbs without a configuration: ``list``, ``info`` and ``export-conversations``."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arra_med.assets.folder import asset_path, human_size
from arra_med.errors import RequestError, did_you_mean
from arra_med.registry import REGISTRIES
from arra_med.store import MANIFEST, PARTIAL, canonical_json, read_manifest, verify

if TYPE_CHECKING:
    from arra_med.model.describe import Description


def list_plugins(options: argparse.Namespace) -> None:
    """Print the plug-ins of one kind, or of all.

    Raises:
        RequestError: if there is no such kind.
    """
    if options.kind is not None and options.kind not in REGISTRIES:
        nearest = did_you_mean(options.kind, REGISTRIES) or "."
        raise RequestError(f"no kind {options.kind!r}{nearest} Known: {', '.join(REGISTRIES)}.")
    for kind in [options.kind] if options.kind else REGISTRIES:
        sys.stdout.write(f"{kind}: {', '.join(REGISTRIES[kind].names())}\n")


def show_folder(options: argparse.Namespace) -> None:
    """Print what a folder of ours or a model checkpoint is.

    A model (an export of ours too) is described for people, or with ``--json`` for machines; any
    other finished folder of ours by its kind, counts and configuration, as JSON.

    Raises:
        FileNotFoundError: if it is neither.
        RequestError: if a file is damaged, or ``--verify`` is asked of what has no hashes.
        WorkError: with ``--verify``, if a file does not match its hash.
    """
    folder: Path = options.folder
    if not folder.exists():
        folder = asset_path(str(folder)) or folder
    kind = _kind(folder)
    if kind is None and (folder / PARTIAL).is_dir():
        read_manifest(folder, "prepared")  # says that it is not finished
    if options.verify and folder.is_dir():  # of what is no folder, the description says so
        if kind is None:
            raise RequestError(
                f"{folder} has no {MANIFEST}, so there are no hashes to verify: only finished "
                "folders of ours have them"
            )
        # the report is written again at will, beside the files that are listed
        count = verify(folder, kind, more_is_fine=kind == "evaluation")
        sys.stderr.write(f"{folder} is intact: {count} files match their hashes\n")
    if kind is not None and kind != "export":
        manifest = read_manifest(folder, kind)
        files = manifest.pop("files")
        sys.stdout.write(canonical_json(manifest | {"num_files": len(files)}))
        return
    from arra_med.model.describe import describe_checkpoint

    told = describe_checkpoint(folder)
    sys.stdout.write(canonical_json(asdict(told)) if options.json else as_text(told))


def as_text(told: "Description") -> str:
    """The description for people."""
    unknown = "not recorded"
    no_teacher = "none" if told.kind == "export" else unknown
    trained = told.trained_on
    lines = {
        "model": f"{told.architecture or told.family} ({told.family})",
        "parameters": None if told.parameters is None else f"{told.parameters:,}",
        "image encoder": f"{told.vq_parameters:,} parameters" if told.vq_parameters else None,
        "stored as": told.dtype,
        "layers": told.layers,
        "hidden size": told.hidden_size,
        "vocabulary": f"{told.vocabulary:,}" if told.vocabulary else None,
        "context": f"{told.context:,} tokens" if told.context else None,
        "image tokens": _image_line(told.image),
        "variant": told.variant or unknown,
        "LoRA": f"rank {told.lora['rank']}, merged" if told.lora else None,
        "teacher": told.teacher["name"] if told.teacher else no_teacher,
        "trained on": (
            f"{trained['dataset']}: {trained['samples']:,} samples, {trained['steps']:,} steps"
            if trained
            else unknown
        ),
        "can train": "yes" if told.can_train else "no",
        "can generate": "yes" if told.can_generate else "no",
    }
    text = [f"{told.kind}: {told.name}"]
    text += [f"  {name:<14} {value}" for name, value in lines.items() if value is not None]
    text += [f"  note           {note}" for note in told.notes]
    text += [f"  memory         {use}: {human_size(size)}" for use, size in told.memory.items()]
    text += [f"                 ({told.memory_rule})"] if told.memory else []
    return "\n".join(text) + "\n"


def _kind(folder: Path) -> str | None:
    """What a finished folder's manifest calls it; ``None`` without a manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("kind"))
    except (json.JSONDecodeError, AttributeError) as error:
        raise RequestError(f"{path} is not a manifest of ours: {error}") from error


def _image_line(image: dict[str, Any] | None) -> str:
    if image is None:
        return "none"
    line = f"{image['codes']:,} codes, ids {image['first_id']} to {image['last_id']}"
    if image["grid"]:
        line += f"; {image['grid'][0]} x {image['grid'][1]} codes an image"
    if image["largest_side"]:
        line += f"; tokens that name sides up to {image['largest_side']} codes"
    line += "; rows closed by a token" if image["row_ends"] else ""
    return line + ("; <REP>" if image["rep"] else "")


def export_conversations(options: argparse.Namespace) -> None:
    """Write a prepared folder as ARRA's conversations JSON and print where it lies."""
    from arra_med.datasets.conversations_write import write_conversations

    sys.stdout.write(f"{write_conversations(options.prepared, options.output)}\n")
