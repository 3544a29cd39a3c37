"""What a model checkpoint is, from its small files and the headers of its weights.

No weight is read: a safetensors file begins with the names, types and shapes of its tensors.
"""

import json
import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arra_med.assets.folder import asset_path
from arra_med.assets.listing import read_object, read_shards
from arra_med.errors import RequestError
from arra_med.model.exported import ARRA, unended_run
from arra_med.registry import TOKENIZERS
from arra_med.store import MANIFEST, check_files

_INDEX = "model.safetensors.index.json"
_LARGEST_HEADER = 100_000_000  # the format's own limit, in bytes
_TEXT_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_CHAMELEON = ("chameleon", "chameleon_xllmx")
_VQ_PREFIX, _PROJECTOR_PREFIX = "model.vqmodel.", "adaptor."
_META_TOKENIZER = "meta/chameleon-tokenizer"
_SIZES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_USUAL_GRID = (32, 32)  # of 512 px pictures: to read a layout from names, some grid must be chosen

MEMORY_RULE = (
    "bytes a parameter: 2 to generate in bf16; 8 to train with AdamW wholly in bf16 (weight, "
    "gradient, two states); 16 with fp32 masters (bf16 weight and gradient, fp32 master and two "
    "states). Activations come on top; ZeRO divides states (1), gradients (2) and weights (3) by "
    "the number of GPUs. The cache is 2 x layers x key-value heads x head size x 2 bytes a token, "
    "for one image without guidance; guidance doubles it"
)


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """What the headers of a folder's weights say.

    Attributes:
        parameters: numbers stored, the two below excluded.
        vq_parameters: of an image encoder stored inside a Chameleon checkpoint.
        projector_parameters: of ARRA's training-only projector, as its authors store it.
        dtypes: how numbers are stored, the commonest first.
    """

    parameters: int
    vq_parameters: int
    projector_parameters: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A checkpoint, as far as its files say.

    Attributes:
        kind: ``export`` (ours), ``chameleon`` or ``language model``.
        name: what it calls itself, or its folder's name.
        family: ``model_type`` of its configuration.
        architecture: its class in transformers, if stated.
        parameters: numbers in the weights; ``None`` if they are not safetensors.
        vq_parameters: of an image encoder among the weights.
        dtype: how they are stored.
        layers: decoder blocks.
        hidden_size: width.
        vocabulary: rows of the embedding, as configured.
        context: positions it was made for.
        image: codes, grid and tokens around them; ``None`` if it has no image tokens.
        variant: ``base``, ``arra`` or ``adapt``; ``None`` if not recorded.
        lora: settings of LoRA it was trained with (merged since).
        teacher: that it was aligned to.
        trained_on: dataset and amount.
        can_train: whether it can be ``backbone.pretrained`` here.
        can_generate: whether ``generate`` can draw with it as it is.
        notes: what is missing or should be known, as sentences.
        memory: bytes by use, see ``memory_rule``.
        memory_rule: how they were computed.
    """

    kind: str
    name: str
    family: str
    architecture: str | None
    parameters: int | None
    vq_parameters: int
    dtype: str | None
    layers: int | None
    hidden_size: int | None
    vocabulary: int | None
    context: int | None
    image: dict[str, Any] | None
    variant: str | None
    lora: dict[str, Any] | None
    teacher: dict[str, Any] | None
    trained_on: dict[str, Any] | None
    can_train: bool
    can_generate: bool
    notes: list[str]
    memory: dict[str, int]
    memory_rule: str = MEMORY_RULE


def describe_checkpoint(folder: Path) -> Description:
    """Describe an export of ours, a transformers folder or one of Chameleon's family.

    Raises:
        FileNotFoundError: if there is no model.
        RequestError: if one of its files is damaged.
    """
    config = read_object(_config_file(folder))
    family = config.get("model_type")
    if not isinstance(family, str):
        what = "an image tokenizer's" if "name" in config else "no language model's"
        raise RequestError(f"{folder / 'config.json'} has no model_type: it is {what}")
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    info = read_object(folder / ARRA) if (folder / ARRA).is_file() else None
    notes: list[str] = []
    tensors = _try_headers(folder, notes)
    image: dict[str, Any] | None = None
    can_generate = False
    if info is not None:
        kind, image = "export", _from_layout(info.get("layout"), folder)
        can_train, can_generate = _judge_export(folder, family, notes)
    elif family in _CHAMELEON:
        kind = "chameleon"
        image, can_train, can_generate = _judge_chameleon(folder, tensors, notes)
    else:
        kind, can_train = "language model", _judge_plain(folder, family, notes)
    architectures = config.get("architectures") or [None]
    parameters = tensors.parameters if tensors else None
    return Description(
        kind=kind,
        name=str((info or {}).get("name") or folder.resolve().name),
        family=family,
        architecture=architectures[0],
        parameters=parameters,
        vq_parameters=tensors.vq_parameters if tensors else 0,
        dtype=" and ".join(tensors.dtypes) if tensors else config.get("dtype"),
        layers=_first(text, "num_hidden_layers", "n_layer"),
        hidden_size=_first(text, "hidden_size", "n_embd"),
        vocabulary=_first(text, "vocab_size"),
        context=_first(text, "max_position_embeddings", "n_positions"),
        image=image,
        variant=_variant(info, family) if info else None,
        lora=((info or {}).get("backbone") or {}).get("lora"),
        teacher=(info or {}).get("teacher"),
        trained_on=(info or {}).get("trained_on"),
        can_train=can_train and tensors is not None,
        can_generate=can_generate and tensors is not None,
        notes=notes,
        memory=_memory(parameters, text, image),
    )


def read_headers(folder: Path) -> Tensors:
    """Count what a folder's safetensors files hold, without reading a weight.

    Raises:
        FileNotFoundError: if there are none, or some that the index lists are missing.
        RequestError: if one is cut short or is no safetensors file.
    """
    index = folder / _INDEX
    listed = read_shards(index) if index.is_file() else None
    files = sorted(set(listed.values())) if listed else [folder / "model.safetensors"]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        old = sorted(path.name for path in folder.glob("*.bin"))
        hint = ": download again what is missing"
        if old:
            hint = f"; {old[0]} is of the older format: save the model again as safetensors"
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} files of weights are missing in {folder}, first "
            f"{missing[0]}{hint}"
        )
    counts: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    seen: set[str] = set()
    for path in files:
        header = _header(path)
        seen |= header.keys()
        for tensor, entry in header.items():
            size = math.prod(entry["shape"])
            part = [p for p in (_VQ_PREFIX, _PROJECTOR_PREFIX) if tensor.startswith(p)]
            counts["".join(part)] += size
            dtypes[entry["dtype"]] += size
    if listed is not None and seen != listed.keys():
        lost = sorted(listed.keys() ^ seen)
        raise RequestError(
            f"{index} and the files disagree about {len(lost)} tensors, first {lost[0]}: they are "
            "of different checkpoints; download them again"
        )
    return Tensors(
        parameters=counts[""],
        vq_parameters=counts[_VQ_PREFIX],
        projector_parameters=counts[_PROJECTOR_PREFIX],
        dtypes=tuple(_SIZES.get(name, name.lower()) for name, _ in dtypes.most_common()),
    )


def _config_file(folder: Path) -> Path:
    if not folder.is_dir():
        what = "is a file, expected a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {what}, and there is no asset of that name")
    if (folder / "config.json").is_file():
        return folder / "config.json"
    inside = sorted(path.name for path in folder.iterdir())
    if (folder / "export" / MANIFEST).is_file():
        raise FileNotFoundError(f"{folder} is a run folder: ask for {folder / 'export'}")
    if said := unended_run(folder):
        raise FileNotFoundError(said)
    if "adapter_config.json" in inside:
        hint = "it is a peft adapter, which needs its base model: merge the two and save the result"
    else:
        hint = f"it holds {', '.join(inside[:5]) or 'nothing'}"
    raise FileNotFoundError(f"{folder} is no model and no folder of ours (no config.json): {hint}")


def _header(path: Path) -> dict[str, dict[str, Any]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        text = file.read(length) if length <= min(_LARGEST_HEADER, size - 8) else b""
    try:
        header: dict[str, dict[str, Any]] = json.loads(text)
        header.pop("__metadata__", None)
        end = 8 + length + max((t["data_offsets"][1] for t in header.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise RequestError(
            f"{path} is not a safetensors file ({size} bytes, its header cannot be read): download "
            "it again. A file of some hundred bytes is a Git LFS pointer: run 'git lfs pull'"
        ) from error
    if size != end:
        ours = "write it again with 'arra-med export'"
        again = ours if (path.parent / ARRA).is_file() else "download it again"
        raise RequestError(f"{path} has {size} bytes, its header says {end}: {again}")
    return header


def _try_headers(folder: Path, notes: list[str]) -> Tensors | None:
    try:
        return read_headers(folder)
    except FileNotFoundError as error:
        notes.append(str(error))
        return None


def _judge_export(folder: Path, family: str, notes: list[str]) -> tuple[bool, bool]:
    can_generate = True
    try:
        check_files(folder, "export")
        name = read_object(folder / "image_tokenizer" / "config.json").get("name")
        if name not in TOKENIZERS.names():
            notes.append(f"its image tokenizer {name!r} is not installed here")
            can_generate = False
    except FileNotFoundError as error:
        notes.append(str(error))
        can_generate = False
    if family not in _CHAMELEON:
        notes.append("as backbone.pretrained it takes codes of its own image tokenizer alone")
    return True, can_generate


def _judge_chameleon(
    folder: Path, tensors: Tensors | None, notes: list[str]
) -> tuple[dict[str, Any] | None, bool, bool]:
    """Layout, read from the names of its tokens; whether it can be trained, and can draw."""
    from arra_med.model.chameleon_import import read_config, read_text_tokenizer
    from arra_med.model.chameleon_layout import chameleon_layout

    if tensors is not None and tensors.projector_parameters:
        notes.append("it holds ARRA's projector, so its authors trained it with alignment")
    if tensors is not None and not tensors.vq_parameters:
        notes.append("it holds no image encoder")
    has_decoder = asset_path(_META_TOKENIZER) is not None
    if not has_decoder:
        notes.append(
            "to make pictures of its codes, the image tokenizer's decoder is needed: Meta's "
            f"vqgan.ckpt ('arra-med assets fetch {_META_TOKENIZER}')"
        )
    try:
        vocabulary = read_text_tokenizer(folder).get_vocab()
        layout = chameleon_layout(
            vocabulary, read_config(folder), grid=_USUAL_GRID, pad_id=0, with_rep=False
        )
    except (RequestError, FileNotFoundError) as error:
        notes.append(str(error))
        return None, False, False
    return _from_layout(layout.to_json(), folder) | {"grid": None}, True, has_decoder


def _judge_plain(folder: Path, family: str, notes: list[str]) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    has_tokenizer = any((folder / name).is_file() for name in _TEXT_TOKENIZERS)
    known = family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not known:
        notes.append(f"transformers has no causal language model of type {family!r} here")
    if not has_tokenizer:
        notes.append(f"its text tokenizer is missing ({' or '.join(_TEXT_TOKENIZERS)})")
    notes.append("it has no image tokens and cannot draw before 'arra-med train' adds them")
    return known and has_tokenizer


def _from_layout(layout: Any, folder: Path) -> dict[str, Any]:  # noqa: ANN401 - JSON
    if not isinstance(layout, dict) or "code_ids" not in layout or "grid" not in layout:
        raise RequestError(f"{folder / ARRA} has no layout of image tokens: export again")
    ids = layout["code_ids"]
    first, last = (ids["first"], ids["last"]) if isinstance(ids, dict) else (min(ids), max(ids))
    return {
        "codes": last - first + 1 if isinstance(ids, dict) else len(ids),
        "first_id": first,
        "last_id": last,
        "grid": list(layout["grid"]),
        "row_ends": bool(layout.get("row_end_ids")),
        "largest_side": max(0, len(layout.get("size_ids") or ()) - 1) * layout.get("size_unit", 1),
        "rep": layout.get("rep_id") is not None,
    }


def _variant(info: dict[str, Any], family: str) -> str | None:
    backbone = info.get("backbone")
    if not isinstance(backbone, dict):
        return None
    if backbone.get("llama"):
        return "base"
    drew = family in _CHAMELEON and not backbone.get("zero_image_head")
    return "adapt" if drew else "arra"


def _memory(
    parameters: int | None, text: dict[str, Any], image: dict[str, Any] | None
) -> dict[str, int]:
    if parameters is None:
        return {}
    memory = {"generate, bf16": 2 * parameters, "train, bf16": 8 * parameters}
    memory["train, fp32 masters"] = 16 * parameters
    layers = _first(text, "num_hidden_layers", "n_layer")
    width = _first(text, "hidden_size", "n_embd")
    heads = _first(text, "num_attention_heads", "n_head")
    if image is not None and layers and width and heads:
        rows, columns = image["grid"] or _USUAL_GRID
        tokens = rows * (columns + image["row_ends"])
        key_value = _first(text, "num_key_value_heads") or heads
        head = _first(text, "head_dim") or width // heads
        memory["cache of one image"] = 2 * layers * key_value * head * 2 * tokens
    return memory


def _first(config: dict[str, Any], *names: str) -> int | None:
    return next((config[name] for name in names if isinstance(config.get(name), int)), None)
