"""Backbones: any ``AutoModelForCausalLM`` with image codes added to its vocabulary.

New token ids follow the model's own: ``[<REP>,] image start, image end, code 0, code 1, …``. The
text tokenizer is left as it is; ``ImageLayout`` says where the image ids are. Checkpoints of
Chameleon's family have image tokens of their own, which are used as they are.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import Tokenizer as BpeTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from arra_med.assets.folder import asset_path
from arra_med.errors import RequestError
from arra_med.model.chameleon import ChameleonDrawer
from arra_med.model.chameleon_import import is_chameleon, load_chameleon
from arra_med.model.chameleon_layout import checkpoint_layout
from arra_med.model.exported import exported_layout
from arra_med.model.layout import ImageLayout
from arra_med.settings import Backbone, Llama

logger = logging.getLogger(__name__)


def build_backbone(
    settings: Backbone,
    *,
    prompts: Sequence[str],
    num_codes: int,
    grid: tuple[int, int],
    with_rep: bool,
    seed: int,
    dtype: torch.dtype = torch.float32,
    image_tokenizer: str = "",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, ImageLayout]:
    """The model, its text tokenizer and the layout of image tokens, ready for training.

    Args:
        settings: a pretrained folder or sizes of a new LLaMA.
        prompts: training prompts, from which a new LLaMA's text tokenizer is trained.
        num_codes: of the image tokenizer.
        grid: of the image tokenizer.
        with_rep: whether a ``<REP>`` token opens the image.
        seed: of a new model's weights.
        dtype: of pretrained weights.
        image_tokenizer: the image tokenizer's identity, which an export trained on must share.

    Raises:
        FileNotFoundError: if the pretrained folder is not there.
        RequestError: if it does not hold a causal language model and its tokenizer, if a checkpoint
            of Chameleon's family does not fit the image tokenizer, or if a setting cannot take
            effect.
    """
    if settings.llama is not None:
        tokenizer = train_text_tokenizer(prompts, settings.llama.text_vocabulary)
        text_size = len(tokenizer)
        layout = _layout(text_size, tokenizer, num_codes, grid, with_rep=with_rep)
        model = new_llama(settings.llama, layout.vocabulary_end, settings.dropout, tokenizer, seed)
        return model, tokenizer, layout
    assert settings.pretrained is not None
    folder = pretrained_folder(settings.pretrained)
    model, tokenizer = open_model(folder, dtype)
    if isinstance(model, ChameleonDrawer):
        layout = _family_layout(model, tokenizer, num_codes, grid, with_rep=with_rep)
        model.drop_residuals(settings.dropout)
    elif drawn := exported_layout(
        folder, grid=grid, image_tokenizer=image_tokenizer, with_rep=with_rep
    ):
        layout = drawn
        _set_dropout(model, settings.dropout)
    else:
        text_size = max(len(tokenizer), model.get_input_embeddings().weight.shape[0])
        layout = _layout(text_size, tokenizer, num_codes, grid, with_rep=with_rep)
        extend_vocabulary(model, layout.vocabulary_end)
        _set_dropout(model, settings.dropout)
    if settings.zero_image_head:
        zero_image_head(model, layout)
    return model, tokenizer, layout


def pretrained_folder(where: Path) -> Path:
    """The folder of a language model.

    Args:
        where: a local folder, or ``owner/name`` of a model in the asset folder.

    Raises:
        FileNotFoundError: if there is none, or it has no config.json.
    """
    folder = where if where.is_dir() else asset_path(str(where)) or where
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"no language model at {folder} (config.json is missing), nor an asset of that name. "
            "On a machine with internet run 'arra-med assets fetch <owner>/<name>', copy it to "
            "this machine and set backbone.pretrained to that name, or to any model's folder"
        )
    return folder


def open_model(
    folder: Path, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model and text tokenizer of a folder, whatever their architecture.

    Args:
        folder: a local folder with ``config.json``.
        dtype: of the weights; by default as they are stored.

    Raises:
        FileNotFoundError: if a file is missing.
        RequestError: if transformers cannot open it as a causal language model.
    """
    if is_chameleon(folder):
        return load_chameleon(folder, dtype)
    try:
        AutoConfig.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype="auto" if dtype is None else dtype
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise RequestError(f"transformers cannot open {folder} for text: {error}") from error
    return model, tokenizer


def train_text_tokenizer(prompts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most ``size`` tokens, trained on ``prompts``.

    It never meets an unknown character; ``<s>`` opens every text.
    """
    tokenizer = BpeTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(prompts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def new_llama(
    sizes: Llama,
    vocabulary: int,
    dropout: float,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> PreTrainedModel:
    """A LLaMA with random weights drawn from ``seed``."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        max_position_embeddings=4096,
        attention_dropout=dropout,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


@torch.no_grad()
def extend_vocabulary(model: PreTrainedModel, size: int) -> None:
    """Grow the embedding and the output head to ``size`` rows, in place.

    New rows (and a new bias entry) start at the mean of the old ones; tied weights stay tied.
    """
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    old = embedding.weight.shape[0]
    tied = head is not None and head.weight is embedding.weight
    model.resize_token_embeddings(size, mean_resizing=False)
    grown = [model.get_input_embeddings().weight]
    new_head = model.get_output_embeddings()
    if new_head is not None and not tied:
        grown.append(new_head.weight)
    if new_head is not None and getattr(new_head, "bias", None) is not None:
        grown.append(new_head.bias)
    for weight in grown:
        weight[old:] = weight[:old].mean(dim=0)


@torch.no_grad()
def zero_image_head(model: PreTrainedModel, layout: ImageLayout) -> None:
    """Set the output head's rows of image codes to zero, in place.

    ARRA's authors start so from a model that has never drawn: every code is as likely as another.

    Raises:
        RequestError: if the head shares its rows with the embedding.
    """
    head = model.get_output_embeddings()
    if head.weight is model.get_input_embeddings().weight:
        raise RequestError(
            f"backbone.zero_image_head would also zero what {type(model).__name__} reads of image "
            "codes, because its head and embedding are one: set it to false"
        )
    rows = torch.from_numpy(layout.token_of_code).to(head.weight.device)
    head.weight[rows] = 0
    if getattr(head, "bias", None) is not None:
        head.bias[rows] = 0


def context_length(model: PreTrainedModel) -> int | None:
    """Positions a model was made for; ``None`` if its configuration does not say."""
    length: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length


def decoder_blocks(model: nn.Module, num_layers: int) -> nn.ModuleList:
    """The decoder's stack of blocks, whatever the architecture calls it.

    Raises:
        RequestError: if there is not exactly one stack of ``num_layers`` blocks.
    """
    stacks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == num_layers
    ]
    outer = [
        module
        for name, module in stacks
        if not any(name.startswith(f"{other}.") for other, _ in stacks)
    ]
    if len(outer) != 1:
        raise RequestError(
            f"cannot tell the decoder blocks of {type(model).__name__}: found {len(outer)} stacks "
            f"of {num_layers} blocks, expected one"
        )
    return outer[0]


def _set_dropout(model: PreTrainedModel, dropout: float) -> None:
    """Set attention dropout where the blocks keep it: they copied it when they were built."""
    places = [module for module in model.modules() if hasattr(module, "attention_dropout")]
    for module in places:
        if isinstance(module.attention_dropout, nn.Dropout):
            module.attention_dropout.p = dropout
        else:
            module.attention_dropout = dropout
    if hasattr(model.config, "attention_dropout"):
        model.config.attention_dropout = dropout
    if dropout and not places:
        raise RequestError(
            f"backbone.dropout is {dropout} but {type(model).__name__} has no "
            "attention_dropout: set it to 0"
        )


def _family_layout(
    model: ChameleonDrawer,
    tokenizer: PreTrainedTokenizerBase,
    num_codes: int,
    grid: tuple[int, int],
    *,
    with_rep: bool,
) -> ImageLayout:
    layout = checkpoint_layout(model, tokenizer, grid=grid, with_rep=with_rep)
    if layout.num_codes != num_codes:
        raise RequestError(
            f"the image tokenizer has {num_codes} codes, the backbone's vocabulary names "
            f"{layout.num_codes}: a checkpoint of Chameleon's family draws with the tokenizer it "
            "was trained with, 'chameleon-vq'"
        )
    return layout


def _layout(
    text_size: int,
    tokenizer: PreTrainedTokenizerBase,
    num_codes: int,
    grid: tuple[int, int],
    *,
    with_rep: bool,
) -> ImageLayout:
    new = iter(range(text_size, text_size + 3))
    rep = next(new) if with_rep else None
    start, end = next(new), next(new)
    pad = tokenizer.pad_token_id
    return ImageLayout(
        start_ids=(start,) if rep is None else (rep, start),
        end_ids=(end,),
        code_ids=tuple(range(end + 1, end + 1 + num_codes)),
        grid=grid,
        rep_id=rep,
        pad_id=end if pad is None else pad,
    )
