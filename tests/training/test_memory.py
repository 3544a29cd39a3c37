"""Sizes against arithmetic done by hand: 7 billion parameters on 8 ranks."""

import dataclasses

import pytest

from arra_med.settings import Training
from arra_med.training.memory import Sizes, remedies, table

P = 7_000_000_000
SIZES = Sizes(
    parameters=P, trained=P, tokenizer_bytes=1000, row_tokens=1102, layers=32, hidden=4096,
    inner=11008, vocabulary=65536,
)  # fmt: skip
GB = 10**9


@pytest.mark.parametrize(
    ("settings", "weights", "gradients", "masters", "moments"),
    [
        ({"precision": "fp32", "zero_stage": 0}, 28, 28, 0, 56),
        ({"precision": "bf16", "zero_stage": 0}, 14, 14, 28, 56),
        ({"precision": "bf16", "zero_stage": 0, "master_weights": "bf16"}, 14, 14, 0, 28),
        ({"precision": "bf16", "zero_stage": 1}, 14, 14, 3.5, 7),
        ({"precision": "bf16", "zero_stage": 2}, 14, 1.75, 3.5, 7),
        ({"precision": "bf16", "zero_stage": 3}, 1.75, 1.75, 3.5, 7),
        ({"precision": "bf16", "zero_stage": 2, "offload": "optimizer"}, 14, 1.75, 0, 0),
        ({"precision": "bf16", "zero_stage": 3, "offload": "parameters"}, 0, 1.75, 0, 0),
    ],
)
def test_bytes_of_a_parameter(
    settings: dict, weights: float, gradients: float, masters: float, moments: float
) -> None:
    rows = dict(table(SIZES, Training(**settings), 8))
    names = ("weights", "gradients", "AdamW's weights", "AdamW's moments")
    assert [rows[name] / GB for name in names] == [weights, gradients, masters, moments]


def test_activations_fall_with_what_is_recomputed() -> None:
    def activations(**changes: int) -> int:
        rows = dict(table(SIZES, Training(micro_batch_size=6, **changes), 8))
        return rows["activations (estimate)"]

    tokens, block = 6 * 1102, 18 * 4096 + 6 * 11008
    assert activations() == tokens * 32 * block
    assert activations(activation_checkpointing=1) == tokens * (block + 32 * 4096 * 2)
    assert activations(activation_checkpointing=2) == tokens * (17 * block + 16 * 4096 * 2)


def test_logits_exist_a_chunk_at_a_time() -> None:
    rows = dict(table(SIZES, Training(micro_batch_size=6), 8))
    assert rows["logits and their gradient"] == 2**28 * 2 * (2 + 4)
    small = dataclasses.replace(SIZES, vocabulary=10)
    assert dict(table(small, Training(), 8))["logits and their gradient"] == 6 * 1102 * 10 * 12


def test_remedies_fit_and_change_little() -> None:
    training = Training(micro_batch_size=6, zero_stage=1)
    need = sum(size for _, size in table(SIZES, training, 8))
    found = remedies(SIZES, training, 8, int(need * 0.9))
    assert len(found) == 3
    assert found[0][0] == "training.micro_batch_size=3"
    assert all(size < need * 0.9 for _, size in found)
    assert len(remedies(SIZES, training, 8, 1)) == 3, "the smallest where nothing fits"
    odd = Training(batch_size=18, micro_batch_size=9, zero_stage=1)
    texts = [text for text, _ in remedies(SIZES, odd, 2, 1)]
    assert not any("micro_batch_size=4" in text for text in texts), "9 does not divide into 4s"
    assert remedies(SIZES, odd, 2, 10**15)[0][0] == "training.micro_batch_size=3"
