"""Models that keep states beside keys and values, or in their place, draw right or are refused."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    JambaConfig,
    Lfm2Config,
    MambaConfig,
    PreTrainedModel,
    RwkvConfig,
)

from arra_med.errors import RequestError
from arra_med.generation.decoder import CodeDecoder
from arra_med.generation.sampling import Sampling
from arra_med.generation.static_cache import static_layers
from tests.generation.test_decoder import GROUPED, PLAIN, check_greedy

STATES: dict[str, Any] = {
    "mamba": MambaConfig(vocab_size=32, hidden_size=32, num_hidden_layers=2, state_size=4),
    "lfm2": Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"]),
    "jamba": JambaConfig(
        **GROUPED, attn_layer_period=2, attn_layer_offset=1, num_experts=2, mamba_d_state=4
    ),
}


def build(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(STATES[family])
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("family", STATES)
def test_greedy_equals_a_loop_without_cache_or_padding(family: str, guidance: float) -> None:
    model = build(family)
    check_greedy(model, PLAIN, guidance)
    assert static_layers(model, 64) is None


@pytest.mark.parametrize("family", STATES)
def test_states_count_once_a_sequence(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 2**20

    monkeypatch.setattr("arra_med.generation.decoder.psutil.virtual_memory", lambda: Memory)
    decoder = CodeDecoder(build(family), PLAIN, Sampling())
    token, states = decoder._cache_bytes()
    assert states > 0
    assert (token == 0) == (family == "mamba")
    assert 1 <= decoder.largest_batch(5) <= 2**20 // (2 * states)


def test_a_model_whose_cache_is_unknown_or_wrong_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rwkv = AutoModelForCausalLM.from_config(
        RwkvConfig(vocab_size=32, hidden_size=32, attention_hidden_size=32, num_hidden_layers=2)
    )
    with pytest.raises(RequestError, match="RwkvForCausalLM cannot draw: it keeps no cache"):
        CodeDecoder(rwkv, PLAIN, Sampling())
    mamba = build("mamba")
    monkeypatch.setattr("arra_med.model.cache.step_mask", lambda cache, mask: mask)
    with pytest.raises(RequestError, match="other logits than for a whole sequence"):
        CodeDecoder(mamba, PLAIN, Sampling())
