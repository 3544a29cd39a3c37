"""Where Chameleon's VQ-GAN is found: Meta's ``vqgan.ckpt`` and transformers' checkpoints."""

import logging
import zipfile
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from arra_med.assets.folder import HUB, look_for
from arra_med.assets.listing import read_shards
from arra_med.errors import RequestError
from arra_med.tokenizers.chameleon_keys import CODEBOOK, PARTS

logger = logging.getLogger(__name__)

META_ASSET = "meta/chameleon-tokenizer"
_INDEX = "model.safetensors.index.json"
_IN_FOLDERS = ("vqgan.ckpt", "tokenizer/vqgan.ckpt", _INDEX, "model.safetensors")
_TRAINERS = ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "typing")
"""Libraries whose objects Lightning's checkpoints carry beside the tensors."""


@dataclass(frozen=True)
class VqFile:
    """Tensors of a VQ-GAN under Meta's names, as they are stored.

    Attributes:
        path: the file, or the list of its shards.
        state: names and tensors of the network's parts alone.
    """

    path: Path
    state: dict[str, Tensor]

    @property
    def has_decoder(self) -> bool:
        """Whether any tensor is the decoder's."""
        return any(name.startswith("decoder.") for name in self.state)

    @property
    def dtypes(self) -> str:
        """How numbers are stored, for messages: ``float32``."""
        kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in self.state.values()}
        return " and ".join(sorted(kinds))


def asset_names(*locations: Path | None) -> tuple[str, ...]:
    """The assets that these options name: see :mod:`arra_med.assets.needs`."""
    texts = [str(location) for location in locations if location is not None]
    return tuple(text.removeprefix(HUB) for text in texts if text.startswith(HUB))


def find_vq(location: Path | None) -> Path:
    """The file, or the list of shards, that holds the VQ-GAN.

    Args:
        location: a file; a folder as Meta or the hub stores it (``local-dir:`` may stand before
            either); ``hf-hub:owner/name``, looked for in the asset folder; ``None`` for Meta's
            tokenizer in the asset folder.

    Raises:
        FileNotFoundError: if it is not there.
    """
    path, state = look_for(location or f"{HUB}{META_ASSET}", _IN_FOLDERS)
    if not state:
        return path
    raise FileNotFoundError(
        f"no VQ-GAN at {path}, which {state}: expected Meta's vqgan.ckpt (arra-med assets fetch "
        f"{META_ASSET} says how to get it), or a Chameleon checkpoint of transformers "
        f"({_INDEX} or model.safetensors)"
    )


def vq_files(path: Path) -> list[Path]:
    """The files behind what :func:`find_vq` found: itself, or the shards that it lists."""
    return sorted(set(read_shards(path).values())) if path.name == _INDEX else [path]


def read_vq(path: Path) -> VqFile:
    """Read a VQ-GAN, whatever stands before its names (``model.vqmodel.``), and nothing else.

    Tensors of other parts (discriminator and perceptual loss, the language model) are ignored and
    the log says so.

    Raises:
        FileNotFoundError: if a shard is missing.
        RequestError: if the file cannot be read safely, or holds no VQ-GAN.
    """
    if path.name == _INDEX:
        shards = read_shards(path)
        names = list(shards)
    elif path.suffix == ".safetensors":
        names = _names(path)
        shards = dict.fromkeys(names, path)
    else:
        loaded = _load_pickled(path)
        prefix, chosen = _split(path, list(loaded))
        return VqFile(path, {name.removeprefix(prefix): loaded[name] for name in chosen})
    prefix, chosen = _split(path, names)
    state: dict[str, Tensor] = {}
    for shard in sorted({shards[name] for name in chosen}):
        inside = [name for name in chosen if shards[name] == shard]
        state |= {k.removeprefix(prefix): t for k, t in _read(shard, inside).items()}
    return VqFile(path, state)


def _split(path: Path, names: list[str]) -> tuple[str, list[str]]:
    """What stands before the VQ-GAN's names, and those names.

    Raises:
        RequestError: if there is none, or more than one.
    """
    prefixes = [name.removesuffix(CODEBOOK) for name in names if name.endswith(CODEBOOK)]
    if len(prefixes) != 1:
        parts = Counter(".".join(name.split(".")[:2]) for name in names).most_common(6)
        raise RequestError(
            f"{path} holds {len(prefixes) or 'no'} VQ models: of its {len(names)} tensors, one "
            f"should be named …{CODEBOOK}; most are {', '.join(f'{n}.*' for n, _ in parts)}. "
            "transformers' Chameleon has it under model.vqmodel; checkpoints derived from it may "
            "leave it out: then give Meta's vqgan.ckpt"
        )
    prefix = prefixes[0]
    chosen = [name for name in names if name.startswith(tuple(prefix + part for part in PARTS))]
    ignored = Counter(name.split(".")[0] for name in set(names) - set(chosen))
    if ignored:
        what = ", ".join(f"{part}.* ({count})" for part, count in sorted(ignored.items()))
        logger.info("%s: tensors outside the VQ model are ignored: %s", path.name, what)
    return prefix, chosen


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise RequestError(f"{path} is not a safetensors file: {error}") from error


def _read(shard: Path, names: list[str]) -> dict[str, Tensor]:
    if not shard.is_file():
        raise FileNotFoundError(
            f"{shard} is missing, which should hold {len(names)} tensors of the VQ model: copy the "
            "whole folder again"
        )
    try:
        with safe_open(shard, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise RequestError(f"{shard} cannot be read as its list of shards says: {error}") from error


class _Inert:
    """Stands for a class of a training library; its objects become mappings, unused."""

    def __new__(cls, *args: object, **kwargs: object) -> Any:  # noqa: ANN401
        return OrderedDict()  # the one type that torch's unpickler lets take items and attributes


def _load_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of ``state_dict`` if it is Lightning's; runs no code of it.

    Raises:
        RequestError: if it names objects that are not known to be harmless, or is no checkpoint.
    """
    try:
        # files of before PyTorch 1.6 are no zip archives and cannot be looked through
        zipped = zipfile.is_zipfile(path)
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        refused = [name for name in others if name.partition(".")[0] not in _TRAINERS]
        if refused:
            raise RequestError(
                f"{path} holds objects beside its tensors that are not loaded, because that could "
                f"run code: {', '.join(sorted(refused)[:5])}. Where you trust the file, convert it "
                "with python: import torch; state = torch.load('vqgan.ckpt', map_location='cpu', "
                "weights_only=False)['state_dict']; torch.save({'state_dict': state}, "
                "'vqgan-plain.ckpt')"
            )
        inert: list[Any] = [(type("Inert", (_Inert,), {}), name) for name in others]
        with torch.serialization.safe_globals(inert):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except RequestError:
        raise
    except Exception as error:  # a broken file may break any step of unpickling
        line = " ".join(str(error).split())[:300]
        raise RequestError(
            f"{path} is not a PyTorch checkpoint that can be read safely: {line}"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        raise RequestError(f"{path} holds no mapping of names to tensors but {type(loaded)}")
    return {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
