"""Open Chameleon-family checkpoints as hubs store them.

Chameleon in transformers' format, Lumina-mGPT, ARRA and ARRA-Adapt hold the same weights under the
same names, but differ in how they are wrapped: model type ``chameleon_xllmx`` and settings of their
authors' trainer in ``config.json``, the gains of query/key normalisation once for all heads instead
of head by head, with or without the image tokenizer's encoder, with the projector of ARRA's
training, in one or several safetensors or pickle files, sometimes without the text tokenizer. None
of their code is needed or run.
"""

import logging
import pickle
import re
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import ChameleonConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from arra_med.assets.folder import asset_path
from arra_med.assets.listing import read_object, read_shards
from arra_med.errors import RequestError
from arra_med.model.chameleon import VQ_PREFIX, ChameleonDrawer

logger = logging.getLogger(__name__)

MODEL_TYPES = ("chameleon", "chameleon_xllmx")
TOKENIZER_ASSETS = (
    "Alpha-VLLM/Lumina-mGPT-7B-512",
    "facebook/chameleon-7b",
    "meta/chameleon-tokenizer",
)
"""Assets whose text tokenizer a checkpoint without one is opened with: the family shares one."""

_TOKENIZER_FILES = ("tokenizer.json", "text_tokenizer.json")
_TRAINERS_OWN = ("auto_map", "dropout", "mask_image_logits", "z_loss_weight")
_WRAPPERS = re.compile(r"(^|\.)(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)(?=\.)")
_NOT_THE_MODEL = re.compile(r"adaptor\.|.*\.rotary_emb\.inv_freq$")
"""ARRA's projector, which only training uses, and a constant that old transformers stored."""
_HEAD_NORM = re.compile(r".*\.self_attn\.([qk])_norm\.(weight|bias)$")
_IMAGE_PLACEHOLDER = "<image>"
"""transformers' converter gives one of Meta's reserved tokens this name."""


def is_chameleon(folder: Path) -> bool:
    """Whether ``config.json`` is that of a Chameleon-family language model."""
    return read_object(folder / "config.json").get("model_type") in MODEL_TYPES


def load_chameleon(
    folder: Path, dtype: torch.dtype | None = None
) -> tuple[ChameleonDrawer, PreTrainedTokenizerBase]:
    """A Chameleon-family checkpoint and its text tokenizer.

    Args:
        folder: as the hub stores it, or an export of ours.
        dtype: of the weights; by default as they are stored.

    Raises:
        FileNotFoundError: if weights or tokenizer are not there.
        RequestError: if configuration, weights and tokenizer do not belong together.
    """
    config = read_config(folder)
    tokenizer = read_text_tokenizer(folder)
    if config.vocabulary_map is None:
        config.vocabulary_map = dict(tokenizer.get_vocab())
    check_vocabulary(tokenizer, config)
    weights, vq_weights = sort_weights(read_weights(folder), config)
    if dtype is None:
        dtype = weights["lm_head.weight"].dtype
    # A config of plain Chameleon and a dictionary: transformers never reads the folder itself.
    model: ChameleonDrawer = ChameleonDrawer.from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype
    )
    model.vq_weights = vq_weights
    if not vq_weights:
        logger.info(
            "%s holds no image encoder (%s*), so neither will the export: transformers will say "
            "that these weights are new",
            folder,
            VQ_PREFIX,
        )
    return model, tokenizer


def read_config(folder: Path) -> ChameleonConfig:
    """transformers' configuration from any of the family's ``config.json``.

    Raises:
        RequestError: if it is not the family's.
    """
    raw = read_object(folder / "config.json")
    if raw.get("model_type") not in MODEL_TYPES:
        raise RequestError(
            f"{folder / 'config.json'} has model_type {raw.get('model_type')!r}, expected one of "
            f"{', '.join(MODEL_TYPES)}"
        )
    kept = {name: value for name, value in raw.items() if name not in _TRAINERS_OWN}
    try:
        return ChameleonConfig.from_dict(kept | {"model_type": "chameleon"})
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise RequestError(f"{folder / 'config.json'} is not a Chameleon's: {error}") from error


def read_text_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The checkpoint's own text tokenizer, or its family's from the asset folder.

    Its ``tokenizer.json`` is used as it is, without the class that ``tokenizer_config.json`` names
    (which in transformers 5 may rebuild the tokenizer in its own way); ``<s>`` opens every text.

    Raises:
        FileNotFoundError: if there is none.
        RequestError: if it is not readable or lacks ``<s>``.
    """
    others = [path for name in TOKENIZER_ASSETS if (path := asset_path(name)) is not None]
    candidates = [place / name for place in (folder, *others) for name in _TOKENIZER_FILES]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"no text tokenizer in {folder} (tokenizer.json is missing), nor an asset that has the "
            f"family's ({', '.join(TOKENIZER_ASSETS)}): copy tokenizer.json of the model that this "
            "checkpoint was trained from into the folder, or fetch one of these assets"
        )
    if path.parent != folder:
        logger.warning("%s has no text tokenizer; using the family's, %s", folder, path)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    if "model" not in read_object(path):  # else the library raises a bare Exception
        raise RequestError(f"{path} is not a file of the tokenizers library: it has no 'model'")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    vocabulary = tokenizer.get_vocab()
    for role, name in names.items():
        if name in vocabulary:
            setattr(tokenizer, role, name)
    if tokenizer.bos_token_id is None:
        raise RequestError(f"{path} has no token <s>, which opens every text of this family")
    if tokenizer("a").input_ids[:1] != [tokenizer.bos_token_id]:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: ChameleonConfig) -> None:
    """Compare the tokenizer with the vocabulary that the configuration carries.

    Raises:
        RequestError: naming tokens that differ.
    """
    vocabulary = tokenizer.get_vocab()
    wrong = [
        f"{name!r} is {token} in the configuration and {vocabulary.get(name, 'absent')} in the "
        "tokenizer"
        for name, token in config.vocabulary_map.items()
        if vocabulary.get(name) != token
        and not (name == _IMAGE_PLACEHOLDER and name not in vocabulary)
    ]
    if wrong:
        raise RequestError(
            f"the text tokenizer disagrees with vocabulary_map in config.json on {len(wrong)} of "
            f"{len(config.vocabulary_map)} tokens: {'; '.join(wrong[:3])}. Expected the tokenizer "
            "that the checkpoint was trained with: copy its tokenizer.json into the folder"
        )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint, memory-mapped where the format allows.

    Raises:
        FileNotFoundError: if there are none, or a file of several is missing.
        RequestError: if a file is damaged, or holds anything but tensors.
    """
    weights: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            if path.suffix == ".safetensors":
                weights |= safetensors.torch.load_file(path)
            else:
                weights |= torch.load(
                    path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
                )
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise RequestError(
                f"cannot read weights from {path}: {error}. Download the file again"
            ) from error
    return weights


def sort_weights(
    weights: dict[str, Tensor], config: ChameleonConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights under a hub's names to those of :class:`ChameleonDrawer` and of the image encoder.

    Raises:
        RequestError: naming weights that are missing, unknown or of another shape.
    """
    model: dict[str, Tensor] = {}
    vq: dict[str, Tensor] = {}
    for saved_name, tensor in weights.items():
        name = _WRAPPERS.sub("", saved_name).removeprefix(".")
        if name.startswith(VQ_PREFIX):
            vq[name] = tensor
        elif not _NOT_THE_MODEL.match(name):
            model[name] = _norm_per_head(name, tensor, config)
    with torch.device("meta"):
        wanted = {name: t.shape for name, t in ChameleonDrawer(config).state_dict().items()}
    if config.tie_word_embeddings:
        model.setdefault("lm_head.weight", model["model.embed_tokens.weight"])
    missing = sorted(wanted.keys() - model.keys())
    unknown = sorted(model.keys() - wanted.keys())
    shapes = [
        f"{name} is {tuple(model[name].shape)}, expected {tuple(shape)}"
        for name, shape in wanted.items()
        if name in model and model[name].shape != shape
    ]
    found = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    wrong = [f"{len(names)} {what} (first: {names[0]})" for what, names in found.items() if names]
    if wrong:
        raise RequestError(
            f"the checkpoint's weights do not fit its config.json: {'; '.join(wrong)}. Expected "
            f"the {len(wanted)} weights of a Chameleon of {config.num_hidden_layers} blocks"
        )
    return model, vq


def _norm_per_head(name: str, tensor: Tensor, config: ChameleonConfig) -> Tensor:
    """Gains of query/key normalisation, head by head.

    They were trained once for each of ``config.model_parallel_size`` groups of heads; old
    checkpoints store ``(groups, head size)`` or ``(head size,)``, newer ones repeat them.
    """
    match = _HEAD_NORM.match(name)
    if match is None:
        return tensor
    heads = config.num_attention_heads if match[1] == "q" else config.num_key_value_heads
    groups = tensor.numel() // tensor.shape[-1]
    if groups == heads or heads % groups:  # fits already, or is refused for its shape
        return tensor
    return tensor.reshape(groups, -1).repeat_interleave(heads // groups, dim=0)


def _weight_files(folder: Path) -> list[Path]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = sorted(set(read_shards(index).values()))
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise FileNotFoundError(
                    f"{folder} lacks {len(missing)} of the {len(files)} files that {index.name} "
                    f"names, first {missing[0]}: the download is not complete"
                )
            return files
        if (folder / name).is_file():
            return [folder / name]
    raise FileNotFoundError(
        f"no weights in {folder}: expected model.safetensors or pytorch_model.bin, or several such "
        "files with an index (….index.json)"
    )
