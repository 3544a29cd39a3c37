"""What transformers calls a cache of keys and values."""

from dataclasses import fields

from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE = next(
    name
    for name in ("cache", "past_key_values")  # the second before transformers 5.24
    if name in {field.name for field in fields(CausalLMOutputWithPast)}
)
"""Keyword of forward passes and attribute of their outputs."""
