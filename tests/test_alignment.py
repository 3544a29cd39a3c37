"""ARRA's loss against a naive loop, with unequal prompts and padding."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
)

from arra_med.alignment import ArraModel, alignment_loss
from arra_med.model.head import split_head
from arra_med.model.layout import ImageLayout
from arra_med.settings import Alignment
from arra_med.token_loss import chunked_losses
from arra_med.training.data import TrainingItem, collate

GRID = (2, 3)
TEXT = 20
SMALL = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
PROMPTS = ([1, 5, 6, 7, 8, 9, 10], [1, 4], [], [1, 3, 3])


def make_layout(*, rep: bool = False) -> ImageLayout:
    first = TEXT + 3 if rep else TEXT + 2
    return ImageLayout(
        start_ids=(TEXT, TEXT + 1) if rep else (TEXT,),
        end_ids=(first - 1,),
        code_ids=tuple(range(first, first + 8)),
        grid=GRID,
        pad_id=0,
        rep_id=TEXT if rep else None,
    )


def make_model(alignment: Alignment, *, kind: str = "llama", dimension: int = 5, z: float = 1e-2):
    torch.manual_seed(0)
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=3,
            num_attention_heads=2,
        )  # fmt: skip
    else:
        config = GPT2Config(vocab_size=32, n_embd=16, n_layer=3, n_head=2, n_positions=64)
        config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    backbone = AutoModelForCausalLM.from_config(config)
    return ArraModel(backbone, alignment, teacher_dimension=dimension, z_weight=z, seed=0)


def make_items(layout: ImageLayout, dimension: int = 5) -> list[TrainingItem]:
    rng = np.random.default_rng(0)
    return [
        TrainingItem(
            layout.example(prompt, rng.integers(0, 8, 6)),
            rng.normal(size=dimension).astype(np.float32),
        )
        for prompt in PROMPTS
    ]


def naive_losses(model: ArraModel, layout: ImageLayout, items, alignment: Alignment):
    """The loss one sample, one position at a time, without batching or padding."""
    cross_entropies, aligneds, zs = [], [], []
    for prompt, item in zip(PROMPTS, items, strict=True):
        ids = torch.from_numpy(item.example.ids)[None]
        output = model.backbone(input_ids=ids, output_hidden_states=True)
        hidden = output.hidden_states[alignment.layer][0]  # index 0 is the embedding
        sample_ce, sample_align, sample_z, span = [], [], [], []
        for position in range(ids.shape[1] - 1):
            following = int(ids[0, position + 1])
            in_image = position >= len(prompt) + len(layout.start_ids) - 1
            if in_image:
                logits = output.logits[0, position].double()
                total = torch.log(torch.exp(logits).sum())
                sample_ce.append(total - logits[following])
                sample_z.append(total**2)
            if alignment.span == "hybnext" and following >= layout.code_ids[0]:
                span.append(hidden[position])
        if alignment.span == "rep":
            span = [hidden[len(prompt)]]
        teacher = torch.from_numpy(item.teacher)
        if alignment.projector == "pool":
            span = [torch.stack(span).mean(dim=0)]
        for state in span:
            projected = model.projector.layers(state)
            if alignment.objective == "cosine":
                cosine = (projected @ teacher) / (projected.norm() * teacher.norm())
                sample_align.append(1 - cosine)
            else:
                sample_align.append(((projected - teacher) ** 2).mean())
        cross_entropies.append(torch.stack(sample_ce).mean())
        aligneds.append(torch.stack(sample_align).mean())
        zs.append(torch.stack(sample_z).mean())
    return (torch.stack(x).mean() for x in (cross_entropies, aligneds, zs))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "alignment",
    [
        Alignment(layer=1),
        Alignment(layer=2, objective="mse", weight=0.5),
        Alignment(layer=2, projector="pool"),
        Alignment(layer=1, span="rep"),
        Alignment(layer=2, span="rep", objective="mse", projector="pool", weight=2.0),
    ],
    ids=lambda a: f"{a.span}-{a.layer}-{a.projector}-{a.objective}",
)
def test_loss_equals_a_naive_loop(alignment: Alignment, kind: str) -> None:
    layout = make_layout(rep=alignment.span == "rep")
    model = make_model(alignment, kind=kind).eval()
    items = make_items(layout)
    losses = model(collate(items, layout.pad_id))
    cross_entropy, aligned, z = naive_losses(model, layout, items, alignment)
    assert losses["cross_entropy"].item() == pytest.approx(cross_entropy.item(), rel=1e-5)
    assert losses["alignment"].item() == pytest.approx(aligned.item(), rel=1e-5)
    assert losses["z"].item() == pytest.approx(z.item(), rel=1e-5)
    expected = cross_entropy + alignment.weight * aligned + 1e-2 * z
    assert losses["total"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_span_is_found_from_the_sample_not_from_the_end_of_the_batch() -> None:
    layout = make_layout()
    batch = collate(make_items(layout), layout.pad_id)
    length = batch["ids"].shape[1]
    for row, prompt in enumerate(PROMPTS):
        own = batch["aligned"][batch["aligned_sample"] == row] - row * length
        assert own.tolist() == list(range(len(prompt), len(prompt) + 6))
        assert (batch["ids"][row, own + 1] >= layout.code_ids[0]).all()


def test_positions_outside_the_span_get_no_gradient() -> None:
    layout = make_layout()
    model = make_model(Alignment(layer=3, weight=1e3), z=0.0).eval()
    batch = collate(make_items(layout), layout.pad_id)
    hidden = []

    def keep(_module, _inputs, output) -> None:
        output.retain_grad()
        hidden.append(output)

    model.backbone.model.layers[2].register_forward_hook(keep)
    model(batch)["alignment"].backward()
    gradient = hidden[0].grad.flatten(0, 1).abs().sum(dim=-1)
    inside = torch.zeros_like(gradient, dtype=torch.bool)
    inside[batch["aligned"]] = True
    assert (gradient[~inside] == 0).all()
    assert (gradient[inside] > 0).all()


@pytest.mark.parametrize("objective", ["cosine", "mse"])
def test_alignment_loss_is_a_weighted_sum(objective: str) -> None:
    projected = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    teacher = torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    found = alignment_loss(projected, teacher, torch.tensor([0.25, 0.75]), objective)
    expected = {"cosine": 0.25 * (1 - 24 / 25) + 0.75 * 1, "mse": 0.25 * 1 + 0.75 * 2.5}
    assert found.item() == pytest.approx(expected[objective])


def test_chunks_of_logits_change_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=False)
    hidden = torch.randn(10, 6, requires_grad=True)
    targets, weights = torch.randint(11, (10,)), torch.rand(10)
    found = {}
    for elements in (1000, 33):  # one chunk; four of three rows at most
        head.zero_grad()
        hidden.grad = None
        ce, z = chunked_losses(
            head, hidden, targets, weights, vocabulary=11, chunk_elements=elements
        )
        (ce + 0.1 * z).backward()
        found[elements] = (ce, z, head.weight.grad, hidden.grad)
    for whole, parts in zip(*found.values(), strict=True):
        torch.testing.assert_close(parts, whole)
    logits = head(hidden).double()
    expected = (
        torch.nn.functional.cross_entropy(logits, targets, reduction="none") @ weights.double()
    )
    assert found[33][0].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("config", "split"),
    [
        (LlamaConfig(**SMALL), True),
        (Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=30.0), False),
        (CohereConfig(**SMALL, logit_scale=0.5), False),
        (GraniteConfig(**SMALL, logits_scaling=2.0), False),
        (GPTNeoXConfig(**SMALL), True),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, bool) else "",
)
def test_only_a_head_whose_outputs_are_the_logits_is_split_off(config, split: bool) -> None:
    model = AutoModelForCausalLM.from_config(config).train()
    found = split_head(model)
    assert (found is not None) == split
    assert model.training


def test_weight_zero_equals_no_alignment_exactly() -> None:
    layout = make_layout()
    batch = collate(make_items(layout), layout.pad_id)
    without = make_model(Alignment(enabled=False))
    zero = make_model(Alignment(weight=0.0))
    for model in (without, zero):
        model(batch)["total"].backward()
    for (name, a), (_, b) in zip(without.named_parameters(), zero.named_parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.grad is not None
        assert torch.equal(a.grad, b.grad), name
    assert "alignment" not in zero(batch)


def test_only_one_hidden_state_is_kept_and_let_go() -> None:
    layout = make_layout()
    model = make_model(Alignment(layer=2))
    model(collate(make_items(layout), layout.pad_id))
    assert model._hidden_BTD is None
    model.backbone(input_ids=torch.tensor([[1, 2]]))
    assert model._hidden_BTD is None, "a forward outside the loss must not keep hidden states"


def test_a_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layer is 4.*1 to 3"):
        make_model(Alignment(layer=4))
