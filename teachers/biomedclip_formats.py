"""BiomedCLIP's two published formats, read into open_clip's names (Zhang et al., arXiv 2303.00915).

Microsoft publishes an open_clip folder. ``chuhac/BiomedCLIP-vit-bert-hf`` holds the same weights
under other names, with Python code that transformers would have to trust; its names are translated
here instead, and no code of it is run. The conversion's configuration gives the vision tower's
layer norms an epsilon of 1e-12, where the model was trained with timm's 1e-6; the latter is used
for both formats, so that both give the same vectors.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arra_med.errors import RequestError
from arra_med.teachers.weights import PublishedWeights, find_published, read_checkpoint, shortened

if TYPE_CHECKING:  # open_clip and timm take seconds to import
    from open_clip.model import CLIPVisionCfg
    from open_clip.timm_model import TimmModel
    from open_clip.transform import PreprocessCfg

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
)  # fmt: skip
OPEN_CLIP = PublishedWeights(
    title="BiomedCLIP",
    repository="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    config="open_clip_config.json",
    checkpoints=(  # in open_clip's order
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "open_clip_pytorch_model.bin",
    ),
    extra=TOKENIZER_FILES,
    licence="MIT",
)
CONVERSION = PublishedWeights(
    title="BiomedCLIP (Hugging Face conversion)",
    repository="chuhac/BiomedCLIP-vit-bert-hf",
    config="config.json",
    checkpoints=("model.safetensors", "pytorch_model.bin"),
    extra=("preprocessor_config.json", *TOKENIZER_FILES),
    licence="MIT",
)
TRAINED_ON = "PMC-15M: 15 million figure-caption pairs of PubMed Central"
CONTEXT_LENGTH = 256  # tokens; the conversion's configuration does not say it


@dataclass(frozen=True)
class BiomedClipFolder:
    """A folder of either format, its configuration read and checked.

    Attributes:
        folder: where it is.
        published: its format.
        embed_dim: length of the vectors of the joint image-text space.
        vision: open_clip's settings of the image tower.
        preprocessing: open_clip's settings of the image transform.
        text: open_clip's ``text_cfg``.
        bert: configuration of the text tower where the folder itself holds it.
    """

    folder: Path
    published: PublishedWeights
    embed_dim: int
    vision: "CLIPVisionCfg"
    preprocessing: "PreprocessCfg"
    text: Mapping[str, Any]
    bert: Mapping[str, Any] | None

    @classmethod
    def find(cls, location: Path | None) -> "BiomedClipFolder":
        """Find a folder and read its configuration.

        Raises:
            FileNotFoundError: as :func:`find_published`.
            RequestError: if the configuration is not of such a model.
        """
        published, folder = find_published((OPEN_CLIP, CONVERSION), location)
        path = folder / published.config
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            read = _read_open_clip if published.config == OPEN_CLIP.config else _read_conversion
            return cls(folder, published, **read(tree, folder))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(
                f"{path} does not describe BiomedCLIP: {error!r}. Expected open_clip's "
                f"{OPEN_CLIP.config} with a timm vision transformer whose vector is the class "
                f"token, or the config.json of {CONVERSION.repository}."
            ) from error

    @property
    def config(self) -> Path:
        """The file that was read."""
        return self.folder / self.published.config

    @property
    def input_size(self) -> int:
        """Side of the picture that the image tower takes, in pixels."""
        return int(self.vision.image_size)

    def image_tower(self) -> "TimmModel":
        """The image tower, parameters without memory: :meth:`load` gives them theirs."""
        from open_clip.timm_model import TimmModel

        build = partial(
            TimmModel,
            self.vision.timm_model_name,
            embed_dim=self.embed_dim,
            image_size=self.vision.image_size,
            pool=self.vision.timm_pool,
            proj=self.vision.timm_proj,
            proj_bias=self.vision.timm_proj_bias,
            pretrained=False,
        )
        with torch.device("meta"):  # drawing random weights takes longer than reading the real ones
            tower = build()
        # buffers are computed, not loaded
        return build() if any(True for _ in tower.buffers()) else tower

    def load(self, module: torch.nn.Module, tower: str) -> None:
        """Give ``module`` the weights of ``tower``, ``visual.`` or ``text.``, in float32.

        The module's parameters are replaced, so it may be built on the device ``meta``.

        Raises:
            RequestError: if the checkpoint cannot be read or does not fit.
        """
        checkpoint = self.published.checkpoint(self.folder)
        tensors = read_checkpoint(checkpoint)
        if self.published.config == CONVERSION.config:
            tensors = to_open_clip(tensors)
        state = {
            name.removeprefix(tower): tensor.float()
            for name, tensor in tensors.items()
            # checkpoints of 2023 hold this buffer, which transformers no longer has
            if name.startswith(tower) and not name.endswith("embeddings.position_ids")
        }
        try:
            module.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise RequestError(
                f"{checkpoint} does not fit {self.config}: {shortened(error)}"
            ) from error


def _read_open_clip(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    from open_clip.model import CLIPVisionCfg
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    model = tree["model_cfg"]
    vision = CLIPVisionCfg(**model["vision_cfg"])
    if not vision.timm_model_name or vision.timm_pool not in ("", "token"):
        raise ValueError(
            f"timm_model_name is {vision.timm_model_name!r}, timm_pool {vision.timm_pool!r}"
        )
    preprocessing = merge_preprocess_dict(PreprocessCfg(), tree.get("preprocess_cfg") or {})
    beside = folder / "config.json"
    bert = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    return {
        "embed_dim": int(model["embed_dim"]),
        "vision": vision,
        "preprocessing": PreprocessCfg(**preprocessing | {"size": int(vision.image_size)}),
        "text": dict(model.get("text_cfg") or {}),
        "bert": bert if bert.get("model_type") == "bert" else None,
    }


# A conversion's config.json names sizes; timm's plain vision transformers by width, depth, heads
_TIMM_SIZES: dict[tuple[int, ...], str] = {
    (192, 12, 3): "tiny",
    (384, 12, 6): "small",
    (768, 12, 12): "base",
    (1024, 24, 16): "large",
}


def _read_conversion(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    import timm
    from open_clip.model import CLIPVisionCfg
    from open_clip.transform import PreprocessCfg

    vision, bert = tree["vision_config"], tree["text_config"]
    if vision["model_type"] != "vit" or bert["model_type"] != "bert":
        raise ValueError(
            f"the towers are {vision['model_type']!r} and {bert['model_type']!r}, not vit and bert"
        )
    size, patch = int(vision["image_size"]), int(vision["patch_size"])
    sizes = tuple(
        int(vision[name]) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")
    )
    name = f"vit_{_TIMM_SIZES.get(sizes, sizes)}_patch{patch}_{size}"
    if not timm.is_model(name):
        raise ValueError(f"timm has no plain vision transformer of these sizes ({name})")
    beside = folder / "preprocessor_config.json"
    processor = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    given = {"mean": processor.get("image_mean"), "std": processor.get("image_std")}
    colours = {key: tuple(values) for key, values in given.items() if values}
    return {
        "embed_dim": int(tree["projection_dim"]),
        "vision": CLIPVisionCfg(
            timm_model_name=name, timm_pool="", timm_proj="linear", image_size=size
        ),
        "preprocessing": PreprocessCfg(**colours, size=size),
        "text": {
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": CONTEXT_LENGTH,
        },
        "bert": bert,
    }


_LAYER = r"encoder\.layers\.(\d+)\."
_RENAMED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"visual_projection\.", "visual.head.proj."),
        (r"vision_model\.post_layernorm\.", "visual.trunk.norm."),
        (r"vision_model\.embeddings\.patch_embedding\.", "visual.trunk.patch_embed.proj."),
        (rf"vision_model\.{_LAYER}layer_norm([12])\.", r"visual.trunk.blocks.\1.norm\2."),
        (rf"vision_model\.{_LAYER}self_attn\.out_proj\.", r"visual.trunk.blocks.\1.attn.proj."),
        (rf"vision_model\.{_LAYER}mlp\.", r"visual.trunk.blocks.\1.mlp."),
        (r"text_projection\.fc1\.", "text.proj.0."),
        (r"text_projection\.fc2\.", "text.proj.2."),
        (
            r"text_model\.embeddings\.token_embedding\.",
            "text.transformer.embeddings.word_embeddings.",
        ),
        (
            r"text_model\.embeddings\.(position|token_type)_embedding\.",
            r"text.transformer.embeddings.\1_embeddings.",
        ),
        (r"text_model\.embeddings\.layer_norm\.", "text.transformer.embeddings.LayerNorm."),
        (
            rf"text_model\.{_LAYER}self_attn\.out_proj\.",
            r"text.transformer.encoder.layer.\1.attention.output.dense.",
        ),
        (
            rf"text_model\.{_LAYER}self_attn\.q_proj\.",
            r"text.transformer.encoder.layer.\1.attention.self.query.",
        ),
        (
            rf"text_model\.{_LAYER}self_attn\.k_proj\.",
            r"text.transformer.encoder.layer.\1.attention.self.key.",
        ),
        (
            rf"text_model\.{_LAYER}self_attn\.v_proj\.",
            r"text.transformer.encoder.layer.\1.attention.self.value.",
        ),
        (
            rf"text_model\.{_LAYER}layer_norm1\.",
            r"text.transformer.encoder.layer.\1.attention.output.LayerNorm.",
        ),
        (
            rf"text_model\.{_LAYER}layer_norm2\.",
            r"text.transformer.encoder.layer.\1.output.LayerNorm.",
        ),
        (
            rf"text_model\.{_LAYER}mlp\.fc1\.",
            r"text.transformer.encoder.layer.\1.intermediate.dense.",
        ),
        (rf"text_model\.{_LAYER}mlp\.fc2\.", r"text.transformer.encoder.layer.\1.output.dense."),
    )
]
_QUERY_KEY_VALUE = re.compile(rf"vision_model\.{_LAYER}self_attn\.([qkv])_proj\.(weight|bias)")


def to_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the conversion's names to open_clip's names and shapes; others stay."""
    state: dict[str, Tensor] = {}
    attention: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _QUERY_KEY_VALUE.fullmatch(name):
            layer, part, kind = match.groups()
            attention.setdefault(f"visual.trunk.blocks.{layer}.attn.qkv.{kind}", {})[part] = tensor
        elif name == "vision_model.embeddings.class_embedding":
            state["visual.trunk.cls_token"] = tensor.reshape(1, 1, -1)
        elif name == "vision_model.embeddings.position_embedding.weight":
            state["visual.trunk.pos_embed"] = tensor[None]
        else:
            for pattern, replacement in _RENAMED:
                name, changed = pattern.subn(replacement, name, count=1)
                if changed:
                    break
            state[name] = tensor
    for name, parts in attention.items():
        state[name] = torch.cat([parts[part] for part in "qkv" if part in parts])
    return state
