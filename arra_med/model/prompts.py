"""Prompts to token ids, with one rule for those that are too long."""

import logging
from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from arra_med.errors import RequestError

logger = logging.getLogger(__name__)


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    keys: Sequence[str],
    *,
    max_tokens: int,
    long_prompts: Literal["refuse", "truncate"],
) -> list[list[int]]:
    """Token ids of each prompt; what closes a text (an end-of-text token) is left out.

    Raises:
        RequestError: if a prompt is empty, or longer than ``max_tokens`` and not to be truncated;
            it names keys, never texts.
    """
    empty = [key for key, prompt in zip(keys, prompts, strict=True) if not prompt.strip()]
    if empty:
        raise RequestError(f"{len(empty)} prompts are empty, first {empty[:3]}")
    encoded: list[list[int]] = [list(ids) for ids in tokenizer(list(prompts)).input_ids]
    end = tokenizer.eos_token_id
    encoded = [ids[:-1] if len(ids) > 1 and ids[-1] == end else ids for ids in encoded]
    long = [key for key, ids in zip(keys, encoded, strict=True) if len(ids) > max_tokens]
    if long and long_prompts == "refuse":
        raise RequestError(
            f"{len(long)} of {len(keys)} prompts are longer than {max_tokens} tokens, first "
            f"{long[:3]}: raise backbone.max_prompt_tokens, or set backbone.long_prompts to "
            "'truncate'"
        )
    if long:
        logger.warning("%d of %d prompts cut to %d tokens", len(long), len(keys), max_tokens)
    return [ids[:max_tokens] for ids in encoded]
