"""Where the model is: an export of ours, or a published checkpoint of Chameleon's family.

ARRA-Adapt and its relatives draw as they are: their checkpoint, with Chameleon's image tokenizer,
becomes an export in memory. Nothing is trained and no folder is written.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arra_med.assets.folder import asset_path, is_name, not_here
from arra_med.assets.listing import PIPELINE, read_object
from arra_med.config import PluginConfig, to_tree
from arra_med.errors import RequestError
from arra_med.model.backbones import context_length
from arra_med.model.chameleon_import import is_chameleon, load_chameleon
from arra_med.model.chameleon_layout import checkpoint_layout
from arra_med.model.export import Export, load_export
from arra_med.model.exported import ARRA, unended_run
from arra_med.model.precision import DTYPES, cast_weights
from arra_med.settings import Generation
from arra_med.store import (
    MANIFEST,
    content_hash,
    fingerprint,
    read_manifest,
    sha256_file,
    verify,
)
from arra_med.tokenizers.base import ImageTokenizer
from arra_med.tokenizers.chameleon_files import find_vq
from arra_med.tokenizers.chameleon_vq import ChameleonVq, ChameleonVqOptions

logger = logging.getLogger(__name__)

PUBLISHED_SIZE = 512
"""Pixels of a side that published checkpoints are asked for by default."""


@dataclass(frozen=True)
class Source:
    """A model that has been found and not loaded yet.

    Attributes:
        info: what it says of itself; see ``arra.json``.
        content_hash: of all it is made of.
        load: reads the weights.
    """

    info: dict[str, Any]
    content_hash: str
    load: Callable[[torch.device], Export]


def find_source(folder: Path, settings: Generation, tokenizer: PluginConfig | None) -> Source:
    """The model at ``folder``.

    Args:
        folder: an export, a checkpoint as the hub stores it, or ``owner/name`` of an asset.
        settings: precision, size, channels.
        tokenizer: ``tokenizer.plugin`` of the configuration, for a published checkpoint; by
            default Chameleon's own in the asset folder.

    Raises:
        FileNotFoundError: if there is nothing.
        RequestError: if it is something else.
    """
    folder = folder if folder.is_dir() else asset_path(str(folder)) or folder
    if (folder / PIPELINE).is_file():
        raise RequestError(
            f"{folder} is a diffusers pipeline: set generation.diffusers.pipeline to it instead of "
            "paths.export"
        )
    if not (folder / MANIFEST).is_file() and (folder / "config.json").is_file():
        if is_chameleon(folder):
            return _published(folder, settings, tokenizer)
        family = read_object(folder / "config.json").get("model_type")
        raise RequestError(
            f"{folder} holds a language model ({family}) that has no tokens for images: train it "
            "with 'arra-med train' (backbone.pretrained) and draw with the export"
        )
    if not (folder / MANIFEST).is_file():
        if said := unended_run(folder) or unended_run(folder.parent):
            raise FileNotFoundError(f"no exported model at {folder}: {said}")
        name = str(folder)
        published = is_name(name) and not folder.exists()
        missing = f". If it is the name of a published one: {not_here(name)}" if published else ""
        raise FileNotFoundError(
            f"no exported model at {folder} ({MANIFEST} is missing): run 'arra-med train', or "
            "point paths.export at the export folder of a finished run, at a published checkpoint "
            f"of Chameleon's family, or at the name of one in the asset folder{missing}"
        )
    read_manifest(folder, "export")
    info = json.loads((folder / ARRA).read_text(encoding="utf-8"))
    del info["layout"]

    def load(device: torch.device) -> Export:
        # A damaged weight would draw, and be recorded as the whole one.
        verify(folder, "export", more_is_fine=True)
        export = load_export(folder, device)
        if settings.precision is not None:
            cast_weights(export.model, DTYPES[settings.precision])
        return export

    return Source(info, content_hash(folder, "export"), load)


def hash_folder(folder: Path, suffixes: tuple[str, ...]) -> str:
    """One hash of the contents of a folder's files with these suffixes, names included."""
    logger.info("hashing the weights in %s", folder)
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in suffixes and path.is_file() and not path.name.startswith(".")
    )
    return fingerprint([[p.relative_to(folder).as_posix(), sha256_file(p)] for p in found])


def _published(folder: Path, settings: Generation, tokenizer: PluginConfig | None) -> Source:
    if tokenizer is not None and tokenizer.name != "chameleon-vq":
        raise RequestError(
            f"tokenizer.plugin is {tokenizer.name!r}, but {folder} draws with the image tokenizer "
            "it was trained with: set tokenizer.plugin.name to chameleon-vq"
        )
    options = ChameleonVqOptions() if tokenizer is None else tokenizer.options
    files = [find_vq(options.weights)]  # missing weights are found before anything is hashed
    if options.decoder_weights is not None:
        files.append(find_vq(options.decoder_weights))
    channels = settings.channels or 3
    info = {
        "name": folder.resolve().name.replace("__", "/"),
        "published": True,
        "image_tokenizer": {"name": "chameleon-vq", "dtype": options.dtype},
        "channels": channels,
        "prompt_dropout": None,  # not recorded in the checkpoint
        "long_prompts": "refuse",
    }
    model_hash = hash_folder(folder, (".safetensors", ".bin", ".json"))
    vq_hashes = [sha256_file(file) for file in files]
    if any(file.suffix == ".json" for file in files):  # a list of shards: those of a checkpoint
        vq_hashes += [
            hash_folder(f.parent, (".safetensors",)) for f in files if f.suffix == ".json"
        ]
    digest = fingerprint([model_hash, vq_hashes, to_tree(options.dtype)])

    def load(device: torch.device) -> Export:
        return _load_published(folder, settings, options, device, channels, info, digest)

    return Source(info, digest, load)


def _load_published(
    folder: Path,
    settings: Generation,
    options: ChameleonVqOptions,
    device: torch.device,
    channels: int,
    info: dict[str, Any],
    digest: str,
) -> Export:
    height, width = settings.size or (PUBLISHED_SIZE, PUBLISHED_SIZE)
    image_tokenizer = ChameleonVq.open(options, image_size=width, channels=channels)
    require_decoder(image_tokenizer)
    factor = image_tokenizer.architecture.downsampling
    if height % factor:
        raise RequestError(f"generation.size {settings.size}: expected multiples of {factor} px")
    precision = settings.precision or ("bf16" if device.type == "cuda" else None)
    model, text_tokenizer = load_chameleon(folder, None if precision is None else DTYPES[precision])
    layout = checkpoint_layout(
        model, text_tokenizer, grid=(height // factor, width // factor), with_rep=False
    )
    if layout.num_codes != image_tokenizer.num_codes:
        raise RequestError(
            f"{folder} draws with {layout.num_codes} codes, the image tokenizer has "
            f"{image_tokenizer.num_codes}: give the vqgan.ckpt that this checkpoint was made with"
        )
    context = context_length(model)
    assert context is not None, "Chameleon's configuration always says"
    return Export(
        model=model.to(device).eval(),
        text_tokenizer=text_tokenizer,
        image_tokenizer=image_tokenizer.to(device),
        layout=layout,
        info=info | {"max_prompt_tokens": context},
        content_hash=digest,
    )


def require_decoder(tokenizer: ImageTokenizer) -> None:
    """Refuse an image tokenizer that cannot turn codes into pictures.

    Raises:
        RequestError: with the remedy.
    """
    if not tokenizer.can_decode:
        raise RequestError(
            "this model's image tokenizer has an encoder only, as transformers' Chameleon "
            "checkpoints have, so it cannot draw. Get Meta's vqgan.ckpt ('arra-med assets fetch "
            "meta/chameleon-tokenizer' says how). For a published checkpoint set "
            "tokenizer.plugin.decoder_weights to it; for an export run 'arra-med train-tokenizer' "
            "with it into a new folder and set generation.image_tokenizer to that folder"
        )
