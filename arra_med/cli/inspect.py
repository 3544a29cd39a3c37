"""Verbs without a configuration: ``list``, ``info`` and ``export-conversations``."""

import argparse
import json
import sys

from arra_med.errors import RequestError
from arra_med.registry import REGISTRIES
from arra_med.store import MANIFEST, canonical_json, read_manifest, verify


def list_plugins(options: argparse.Namespace) -> None:
    """Print the plug-ins of one kind, or of all.

    Raises:
        RequestError: if there is no such kind.
    """
    if options.kind is not None and options.kind not in REGISTRIES:
        raise RequestError(f"no kind {options.kind!r}: expected one of {', '.join(REGISTRIES)}")
    for kind in [options.kind] if options.kind else REGISTRIES:
        sys.stdout.write(f"{kind}: {', '.join(REGISTRIES[kind].names())}\n")


def show_folder(options: argparse.Namespace) -> None:
    """Print a finished folder's kind, counts and configuration.

    Raises:
        FileNotFoundError: if it is not a finished folder of ours.
        RequestError: with ``--verify``, if a file does not match its hash.
    """
    path = options.folder / MANIFEST
    kind = "prepared"
    if path.is_file():
        try:
            kind = str(json.loads(path.read_text(encoding="utf-8")).get("kind"))
        except (json.JSONDecodeError, AttributeError) as error:
            raise RequestError(f"{path} is not a manifest of ours: {error}") from error
    manifest = read_manifest(options.folder, kind)
    if options.verify:
        verify(options.folder, kind)
    files = manifest.pop("files")
    sys.stdout.write(canonical_json(manifest | {"num_files": len(files)}))


def export_conversations(options: argparse.Namespace) -> None:
    """Write a prepared folder as ARRA's conversations JSON and print where it lies."""
    from arra_med.datasets.conversations_write import write_conversations

    sys.stdout.write(f"{write_conversations(options.prepared, options.output)}\n")
