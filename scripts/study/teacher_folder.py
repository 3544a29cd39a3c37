"""A small model in the files of BiomedCLIP, as open_clip publishes it.

open_clip builds its image tower by timm's name alone, and so does the package's loader: sizes are
those that timm knows. Pictures are enlarged to what the tower takes, as BiomedCLIP's are.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import BertConfig, BertTokenizer

from arra_med.errors import RequestError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POOLER, PROJECTION = "cls_last_hidden_state_pooler", "mlp"
HEAD_WIDTH = 64  # BERT's


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of both towers.

    Attributes:
        vision_model: timm's name of a plain vision transformer with a class token.
        embed_dim: length of the joint vectors.
        text_width: of the text tower, a multiple of 64.
        text_layers: of the text tower.
        vocabulary: most word pieces.
        context_length: most tokens a prompt.
    """

    vision_model: str
    embed_dim: int
    text_width: int
    text_layers: int
    vocabulary: int
    context_length: int

    def __post_init__(self) -> None:
        if self.text_width % HEAD_WIDTH:
            raise RequestError(
                f"--text-width is {self.text_width}: expected a multiple of {HEAD_WIDTH}"
            )
        if not timm.is_model(self.vision_model):
            raise RequestError(f"timm knows no --vision-model {self.vision_model!r}")
        with torch.device("meta"):
            model = timm.create_model(self.vision_model)
        if not isinstance(model, VisionTransformer) or model.cls_token is None:
            raise RequestError(
                f"--vision-model {self.vision_model} is no plain vision transformer with a class "
                "token: take vit_tiny_patch16_224 or, smaller, test_vit"
            )

    @property
    def input_size(self) -> int:
        """Side of the pictures that the image tower takes, in pixels."""
        config = timm.get_pretrained_cfg(self.vision_model)
        assert config is not None, "timm knows the model"
        return config.input_size[-1]

    def bert(self, num_words: int) -> BertConfig:
        """The text tower's configuration.

        Without dropout: it would be drawn from the global random state.
        """
        return BertConfig(
            vocab_size=num_words,
            hidden_size=self.text_width,
            num_hidden_layers=self.text_layers,
            num_attention_heads=self.text_width // HEAD_WIDTH,
            intermediate_size=4 * self.text_width,
            max_position_embeddings=self.context_length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=SPECIAL.index("[PAD]"),
        )


def build_towers(sizes: Sizes, num_words: int, seed: int) -> tuple[TimmModel, HFTextEncoder]:
    """Image and text tower with random weights; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        visual = TimmModel(
            sizes.vision_model,
            embed_dim=sizes.embed_dim,
            image_size=sizes.input_size,
            pool="",
            proj="linear",
        )
        text = HFTextEncoder(
            "",
            sizes.embed_dim,
            config=sizes.bert(num_words),
            pooler_type=POOLER,
            proj_type=PROJECTION,
        )
    text.transformer.pooler = None  # open_clip builds it without, when it reads the hub
    return visual, text


def learn_vocabulary(prompts: Sequence[str], size: int) -> list[str]:
    """WordPiece vocabulary of lower-cased prompts, BERT's special tokens first, then sorted.

    The trainer numbers inner letters in the order of a hash table that is seeded anew every time,
    and settles ties by those numbers: named as special tokens, they have the same ones always.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    text = "".join(tokenizer.normalizer.normalize_str(prompt) for prompt in prompts)
    letters = sorted({letter for letter in text if not letter.isspace()})
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=[*SPECIAL, *(f"##{letter}" for letter in letters)],
    )
    tokenizer.train_from_iterator(prompts, trainer)
    return [*SPECIAL, *sorted(set(tokenizer.get_vocab()) - set(SPECIAL))]


def save_tokenizer(folder: Path, vocabulary: Sequence[str]) -> BertTokenizer:
    """Write the tokenizer's files, and return it."""
    path = folder / "vocab.txt"
    path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(str(path), do_lower_case=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_model(
    folder: Path,
    sizes: Sizes,
    visual: TimmModel,
    text: HFTextEncoder,
    *,
    logit_scale: Tensor | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Write weights and configurations beside the tokenizer.

    Args:
        folder: where the tokenizer is.
        sizes: of the towers.
        visual: the image tower.
        text: the text tower.
        logit_scale: logarithm of the factor of the cosines; CLIP's first one if there is none.
        mean: of the pictures' three channels, in ``[0, 1]``.
        std: of the pictures' three channels.
    """
    config: dict[str, Any] = {
        "model_cfg": {
            "embed_dim": sizes.embed_dim,
            "vision_cfg": {
                "timm_model_name": sizes.vision_model,
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": sizes.input_size,
            },
            "text_cfg": {
                "hf_model_name": ".",  # open_clip itself finds it when started in the folder
                "hf_tokenizer_name": ".",
                "hf_proj_type": PROJECTION,
                "hf_pooler_type": POOLER,
                "context_length": sizes.context_length,
            },
        },
        "preprocess_cfg": {"mean": list(mean), "std": list(std)},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    text.config.save_pretrained(folder)
    tensors = {f"visual.{name}": tensor for name, tensor in visual.state_dict().items()}
    tensors |= {f"text.{name}": tensor for name, tensor in text.state_dict().items()}
    scale = torch.tensor(math.log(1 / 0.07)) if logit_scale is None else logit_scale.detach()
    tensors["logit_scale"] = scale
    save_file(  # half the bytes to carry about; what is judged and read later are these weights
        {name: tensor.half().cpu().contiguous() for name, tensor in tensors.items()},
        folder / "open_clip_model.safetensors",
    )
