"""Where Chameleon-family vocabularies keep image tokens, read from the names of the tokens.

Chameleon (arXiv 2405.09818) names the token of each image code ``IMGIMG`` + the code's digits as
letters (A is 0 … J is 9) + ``Z``, in no particular order of ids. Lumina-mGPT (arXiv 2408.02657),
and ARRA after it, add rows and sizes with tokens that Chameleon left reserved: a token closes each
row of codes, and two behind the image start name the height and the width.
"""

import re
from collections.abc import Mapping

from transformers import ChameleonConfig, PreTrainedModel, PreTrainedTokenizerBase

from arra_med.errors import RequestError
from arra_med.model.layout import ImageLayout

IMAGE_START = "<racm3:break>"
IMAGE_END = "<eoss>"
END_OF_TURN = "<reserved08706>"
ROW_END = "<reserved08799>"
REP = "<reserved08795>"
"""The reserved token that ARRA's authors set aside for ``<REP>``."""
SIZE_UNIT = 2
"""Codes a step of the size tokens: they count in 32 px, and a code is 16 px wide."""

_FIRST_SIZE = 8800  # <reserved08800> names a side of 0 steps, <reserved08816> one of 16
_IMAGE_PREFIX = "IMGIMG"
_IMAGE_NAME = re.compile(r"IMGIMG([A-J]+)Z")


def image_token_ids(vocabulary: Mapping[str, int], num_codes: int) -> tuple[int, ...]:
    """Token id of each image code, from the tokens' names.

    Args:
        vocabulary: token name to id.
        num_codes: size of the codebook that the checkpoint's configuration states.

    Raises:
        RequestError: if a name is not one of the family's, two name the same code, or not every
            code from 0 on has one.
    """
    found: dict[int, int] = {}
    for name, token in vocabulary.items():
        if not name.startswith(_IMAGE_PREFIX):
            continue
        match = _IMAGE_NAME.fullmatch(name)
        if match is None:
            raise RequestError(
                f"the vocabulary's token {name!r} does not name an image code: expected 'IMGIMG', "
                "letters A to J for the digits 0 to 9, then 'Z'"
            )
        code = int("".join(str(ord(letter) - ord("A")) for letter in match[1]))
        if code in found:
            raise RequestError(
                f"the vocabulary names image code {code} twice, as tokens {found[code]} and {token}"
            )
        found[code] = token
    missing = sorted(set(range(num_codes)) - found.keys())
    if missing or len(found) != num_codes:
        lacks = f", without code {missing[0]}" if missing else ""
        raise RequestError(
            f"the vocabulary's names (IMGIMG…Z) give {len(found)} image codes"
            f"{lacks}, but the checkpoint's configuration states {num_codes} "
            f"(0 to {num_codes - 1}, vq_config.num_embeddings), each with a token: tokenizer and "
            "weights do not belong together, or the vocabulary was changed"
        )
    return tuple(found[code] for code in range(num_codes))


def checkpoint_layout(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    grid: tuple[int, int],
    with_rep: bool,
) -> ImageLayout:
    """:func:`chameleon_layout` of an opened checkpoint; a vocabulary without PAD pads with BOS."""
    pad = tokenizer.pad_token_id
    return chameleon_layout(
        tokenizer.get_vocab(),
        model.config,
        grid=grid,
        pad_id=tokenizer.bos_token_id if pad is None else pad,
        with_rep=with_rep,
    )


def chameleon_layout(
    vocabulary: Mapping[str, int],
    config: ChameleonConfig,
    *,
    grid: tuple[int, int],
    pad_id: int,
    with_rep: bool,
) -> ImageLayout:
    """The layout of images in a Chameleon-family checkpoint.

    A sequence is ``prompt · end of turn · image start · height · width · rows of codes, each with
    its row end · image end · end of turn``.

    Args:
        vocabulary: token name to id, as the checkpoint's own tokenizer has it.
        config: the checkpoint's.
        grid: ``(rows, columns)`` of codes.
        pad_id: token that fills a batch's shorter sequences.
        with_rep: whether a ``<REP>`` token stands before the image start.

    Raises:
        RequestError: if the vocabulary lacks a token, or an image of this grid cannot be named or
            does not fit into the model's context.
    """
    codes = image_token_ids(vocabulary, config.vq_config.num_embeddings)
    needed = [IMAGE_START, IMAGE_END, END_OF_TURN, ROW_END, *([REP] if with_rep else [])]
    missing = [name for name in (*needed, _size_name(0), _size_name(1)) if name not in vocabulary]
    if missing:
        raise RequestError(
            f"the vocabulary has {len(vocabulary)} tokens but not {', '.join(missing)}, which "
            "Chameleon-family checkpoints use around images: is this tokenizer the checkpoint's?"
        )
    token = {name: vocabulary[name] for name in needed}
    sizes = _size_ids(vocabulary, config.max_position_embeddings)
    for side in grid:
        if side % SIZE_UNIT or not 0 < side // SIZE_UNIT < len(sizes):
            raise RequestError(
                f"images of {grid[0]} × {grid[1]} codes do not fit this checkpoint: its tokens "
                f"name sides of {SIZE_UNIT} to {(len(sizes) - 1) * SIZE_UNIT} codes in steps of "
                f"{SIZE_UNIT} (32 px); set the image size accordingly"
            )
    start = (*([token[REP]] if with_rep else []), token[IMAGE_START])
    layout = ImageLayout(
        start_ids=(*start, *(sizes[side // SIZE_UNIT] for side in grid)),
        end_ids=(token[IMAGE_END], token[END_OF_TURN]),
        code_ids=codes,
        grid=grid,
        pad_id=pad_id,
        rep_id=token[REP] if with_rep else None,
        prompt_end_ids=(token[END_OF_TURN],),
        row_end_ids=(token[ROW_END],),
        size_ids=sizes,
        size_unit=SIZE_UNIT,
    )
    _check_fit(layout, config)
    return layout


def _check_fit(layout: ImageLayout, config: ChameleonConfig) -> None:
    if layout.vocabulary_end > config.vocab_size:
        raise RequestError(
            f"the tokenizer has a token {layout.vocabulary_end - 1} but the model's vocabulary "
            f"ends at {config.vocab_size - 1}: tokenizer and weights do not belong together"
        )
    length = layout.sequence_length(0)
    if length > config.max_position_embeddings:
        rows, columns = layout.grid
        raise RequestError(
            f"an image of {rows} × {columns} codes takes {length} tokens, the model's context is "
            f"{config.max_position_embeddings}: choose smaller images"
        )


def _size_ids(vocabulary: Mapping[str, int], context: int) -> tuple[int, ...]:
    """Tokens of sides of 0, 1, 2 … steps, up to a gap or the longest side that can ever fit."""
    longest = context // SIZE_UNIT**2  # of an image one step wide
    ids: list[int] = []
    while len(ids) <= longest and _size_name(len(ids)) in vocabulary:
        ids.append(vocabulary[_size_name(len(ids))])
    return tuple(ids)


def _size_name(steps: int) -> str:
    return f"<reserved{_FIRST_SIZE + steps:05d}>"
