"""Chameleon as a model that draws: its losses from scratch, what it saves, and what it draws."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoTokenizer, ChameleonForConditionalGeneration

from arra_med.alignment import ArraModel
from arra_med.errors import RequestError
from arra_med.generation.decoder import CodeDecoder
from arra_med.generation.sampling import Sampling, sample_uniforms
from arra_med.model.backbones import build_backbone, open_model, zero_image_head
from arra_med.model.cache import CACHE
from arra_med.model.chameleon import ChameleonDrawer
from arra_med.model.export import load_export, write_export
from arra_med.model.layout import ImageLayout
from arra_med.model.prompts import encode_prompts
from arra_med.settings import Alignment, Backbone
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions
from arra_med.training.data import TrainingItem, collate
from tests.model.chameleon_files import Checkpoint
from tests.model.chameleon_reference import Reference, arra_losses

PROMPTS = ["the", "PA view chest x-ray image, the lungs are clear.", "AP view"]
GRID = (2, 4)
TEACHER = 6
CPU = torch.device("cpu")

GREEDY = Sampling(guidance=1, temperature=0, top_k=0)


def backbone(folder: Path, checkpoint: Checkpoint | None = None, *, with_rep=False, **settings):
    (checkpoint or Checkpoint()).write(folder)
    return build_backbone(
        Backbone(pretrained=folder, **settings), prompts=PROMPTS, num_codes=16, grid=GRID,
        with_rep=with_rep, seed=0,
    )  # fmt: skip


def make_batch(tokenizer, layout: ImageLayout) -> dict[str, torch.Tensor]:
    """Three prompts of different lengths, padded, and the dropped prompt."""
    rng = np.random.default_rng(3)
    prompts = encode_prompts(tokenizer, PROMPTS, PROMPTS, max_tokens=99, long_prompts="refuse")
    items = [
        TrainingItem(
            layout.example(ids, rng.integers(0, 16, layout.codes_per_image)),
            rng.standard_normal(TEACHER).astype(np.float32),
        )
        for ids in [*prompts, []]
    ]  # fmt: skip
    return collate(items, layout.pad_id)


def arra(model: ChameleonDrawer, **alignment) -> ArraModel:
    settings = Alignment(**alignment)
    return ArraModel(model, settings, teacher_dimension=TEACHER, z_weight=0.01, seed=1)


@pytest.mark.parametrize("checkpoint", [Checkpoint(), Checkpoint(norm_rows=2, kv_heads=2)])
def test_arras_loss_equals_a_reference_from_scratch(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model, tokenizer, layout = backbone(tmp_path, checkpoint)
    trained = arra(model, weight=0.7).train()
    batch = make_batch(tokenizer, layout)
    found = trained(batch)
    ids = checkpoint.vocabulary
    sequences = []
    length = batch["ids"].shape[1]
    for number, row in enumerate(batch["ids"].tolist()):
        last = max(p for p in batch["predict"].tolist() if p < (number + 1) * length)
        sequence = row[: last - number * length + 2]
        begin = sequence.index(ids["<racm3:break>"]) + 3
        sequences.append((sequence[:begin], sequence[begin:]))
    lengths = [len(before) for before, _ in sequences]
    assert lengths[3] == 3
    assert len(set(lengths)) == 4
    assert {len(image) for _, image in sequences} == {2 * (4 + 1) + 2}
    expected = arra_losses(
        Reference(checkpoint.weights(), heads=4, kv_heads=checkpoint.kv_heads),
        {name.removeprefix("projector."): w for name, w in trained.state_dict().items()
         if name.startswith("projector.")},
        sequences,
        {token for name, token in ids.items() if name.startswith("IMGIMG")},
        batch["teacher"],
        layer=1, weight=0.7, z_weight=0.01,
    )  # fmt: skip
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-5), name


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    model, tokenizer, layout = backbone(tmp_path)
    batch = make_batch(tokenizer, layout)
    plain, saving = arra(model), arra(copy.deepcopy(model))
    saving.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    for trained in (plain, saving):
        trained.train()(batch)["total"].backward()
    pairs = zip(plain.parameters(), saving.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-7) for a, b in pairs)


def test_kept_positions_and_a_cache_change_no_logit(tmp_path: Path) -> None:
    model, tokenizer, layout = backbone(tmp_path)
    model.eval()
    ids = make_batch(tokenizer, layout)["ids"][:, :20]
    with torch.no_grad():
        whole = model(ids).logits
        assert torch.equal(model(ids, logits_to_keep=torch.tensor([2, 5])).logits, whole[:, [2, 5]])
        assert torch.equal(model(ids, logits_to_keep=3).logits, whole[:, -3:])
        first = model(ids[:, :12], use_cache=True)
        later = model(ids[:, 12:], use_cache=True, **{CACHE: getattr(first, CACHE)})
    torch.testing.assert_close(later.logits, whole[:, 12:], rtol=1e-5, atol=1e-5)
    own = model(ids, labels=ids).loss
    expected = functional.cross_entropy(whole[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("swin_norm", [False, True])
def test_dropout_falls_on_what_blocks_add(swin_norm: bool, tmp_path: Path) -> None:
    """What the first half of a block adds is doubled or gone; in evaluation it is all there."""
    model, _, _ = backbone(tmp_path, Checkpoint(swin_norm=swin_norm), dropout=0.5)
    ids = torch.tensor([[0, 5, 6, 9, 11, 13]])
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.layers[1].self_attn.o_proj.weight.zero_()
        whole = model.eval()(ids, output_hidden_states=True).hidden_states
        added = whole[1] - whole[0]
        torch.manual_seed(0)
        dropped = model.train()(ids, output_hidden_states=True).hidden_states
    kept = dropped[1] != whole[0]
    assert 0.2 < kept.float().mean() < 0.8
    torch.testing.assert_close((dropped[1] - whole[0])[kept], 2 * added[kept])
    assert (dropped[2] == dropped[1]).float().mean() > 0.2  # of the second half some is gone too


def test_the_variant_arra_starts_from_a_head_that_prefers_no_code(tmp_path: Path) -> None:
    model, _, layout = backbone(tmp_path)
    before = model.lm_head.weight.detach().clone()
    zero_image_head(model, layout)
    codes = list(layout.code_ids)
    assert (model.lm_head.weight[codes] == 0).all()
    others = [i for i in range(len(before)) if i not in set(codes)]
    assert torch.equal(model.lm_head.weight[others], before[others])
    assert model.get_input_embeddings().weight[codes].abs().min() > 0
    logits = model(torch.tensor([[0, 5]])).logits
    assert (logits[..., codes] == 0).all()


def test_rep_is_a_token_the_vocabulary_has_reserved(tmp_path: Path) -> None:
    model, tokenizer, layout = backbone(tmp_path, with_rep=True)
    batch = make_batch(tokenizer, layout)
    assert batch["aligned_sample"].tolist() == [0, 1, 2, 3]
    assert set(batch["ids"].flatten()[batch["aligned"]].tolist()) == {
        tokenizer.convert_tokens_to_ids("<reserved08795>")
    }
    assert arra(model, span="rep")(batch)["alignment"] > 0


def test_an_image_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    Checkpoint().write(tmp_path)
    with pytest.raises(RequestError, match=r"has 1024 codes, .* names 16: .* 'chameleon-vq'"):
        build_backbone(
            Backbone(pretrained=tmp_path), prompts=[], num_codes=1024, grid=GRID, with_rep=False,
            seed=0,
        )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A checkpoint as Lumina-mGPT's hub has it, imported, trained for 5 steps and exported."""
    folder = tmp_path_factory.mktemp("trained")
    model, tokenizer, layout = backbone(folder / "hub", Checkpoint(shards=2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrapped = arra(model).train()
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-2)
    batch = make_batch(tokenizer, layout)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = wrapped(batch)
        loss["total"].backward()
        optimizer.step()
        losses.append(loss["total"].item())
    assert losses[-1] < losses[0] - 0.5
    assert all(not torch.equal(t, before[name]) for name, t in model.state_dict().items())
    options = MonaiVqvaeOptions(channels=(8, 8), residual_layers=1, num_codes=16, code_dimension=8)
    MonaiVqvae.create(options, image_size=16, channels=1, seed=0).save(folder / "tokenizer")
    write_export(
        folder / "export", model=model, state_dict=model.state_dict(), text_tokenizer=tokenizer,
        image_tokenizer=folder / "tokenizer", layout=layout, info={},
    )  # fmt: skip
    return folder, model.eval(), tokenizer, layout


def test_plain_transformers_opens_the_export_with_the_same_logits(
    trained, capfd: pytest.CaptureFixture
) -> None:
    folder, model, tokenizer, layout = trained
    plain, report = ChameleonForConditionalGeneration.from_pretrained(
        folder / "export", output_loading_info=True
    )
    assert not any(report.values()), report
    assert "MISSING" not in "".join(capfd.readouterr())
    batch = make_batch(tokenizer, layout)
    inputs = {"input_ids": batch["ids"]}
    with torch.no_grad():
        ours = model(**inputs, output_hidden_states=True)
        theirs = plain(**inputs, output_hidden_states=True)
    image = torch.zeros(ours.logits.shape[-1], dtype=torch.bool)
    image[list(layout.code_ids)] = True
    assert torch.equal(ours.logits[..., ~image], theirs.logits[..., ~image])
    assert (theirs.logits[..., image] == torch.finfo(torch.float32).min).all()
    # What they mask is the same too: their head on their hidden states.
    assert torch.equal(plain.lm_head(theirs.hidden_states[-1])[..., image], ours.logits[..., image])
    for a, b in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert torch.equal(a, b)
    hub = Checkpoint().weights()
    for name, weight in plain.model.vqmodel.state_dict().items():
        assert torch.equal(weight, hub[f"model.vqmodel.{name}"]), name
    assert AutoTokenizer.from_pretrained(folder / "export")(PROMPTS).input_ids == (
        tokenizer(PROMPTS).input_ids
    )


def test_the_export_comes_back_and_can_be_trained_further(trained) -> None:
    folder, model, tokenizer, layout = trained
    export = load_export(folder / "export", CPU)
    assert isinstance(export.model, ChameleonDrawer)
    assert export.layout == layout
    again = open_model(folder / "export", torch.float32)[0]
    for name, weight in model.state_dict().items():
        assert torch.equal(export.model.state_dict()[name], weight)
        assert torch.equal(again.state_dict()[name], weight)
    assert again.vq_weights.keys() == model.vq_weights.keys()
    assert export.text_tokenizer(PROMPTS).input_ids == tokenizer(PROMPTS).input_ids


def check_drawing(model, layout: ImageLayout, prompts, codes: torch.Tensor, start) -> None:
    """Each code is the likeliest after everything before it, in the layout of METHOD.md."""
    image = set(layout.code_ids)
    for prompt, drawn in zip(prompts, codes.reshape(len(prompts), -1).numpy(), strict=True):
        ids = layout.example(prompt, drawn).ids.tolist()
        body = [*prompt, *layout.prompt_end_ids, *start]
        for row in drawn.reshape(layout.grid):
            body += [*(layout.code_ids[code] for code in row), *layout.row_end_ids]
        assert ids == body + list(layout.end_ids)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0][:, list(layout.code_ids)]
        places = [i for i in range(len(ids) - 1) if ids[i + 1] in image]
        best = logits[places].max(dim=-1).values
        chosen = logits[places, torch.from_numpy(drawn)]
        assert len(places) == layout.codes_per_image
        torch.testing.assert_close(chosen, best, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("grid", [(2, 4), (4, 2), (2, 10), (8, 6)])
def test_any_height_and_width_is_drawn_in_full(grid: tuple[int, int], trained) -> None:
    folder, _, tokenizer, _ = trained
    export = load_export(folder / "export", CPU)
    layout = export.layout.with_grid(*grid)
    prompts = list(tokenizer(PROMPTS).input_ids)
    uniforms = torch.zeros(len(prompts), layout.codes_per_image, dtype=torch.float64)
    codes = CodeDecoder(export.model, layout, GREEDY)(prompts, uniforms)
    assert codes.shape == (3, *grid)
    start = [
        tokenizer.convert_tokens_to_ids(name)
        for name in ("<racm3:break>", *(f"<reserved{8800 + side // 2:05d}>" for side in grid))
    ]
    check_drawing(export.model, layout, prompts, codes, start)


def test_a_full_512_px_layout_with_the_published_vocabulary(tmp_path: Path) -> None:
    Checkpoint(published=True, layers=2).write(tmp_path)
    model, tokenizer, layout = build_backbone(
        Backbone(pretrained=tmp_path), prompts=[], num_codes=8192, grid=(32, 32), with_rep=False,
        seed=0,
    )  # fmt: skip
    prompts = [tokenizer("the").input_ids]
    noise = torch.zeros(1, 1024, dtype=torch.float64)
    codes = CodeDecoder(model.eval(), layout, GREEDY)(prompts, noise)
    check_drawing(model, layout, prompts, codes, [8197, 8820, 8820])
    uniforms = torch.from_numpy(sample_uniforms(0, "k", 0, 4)[None])
    small = CodeDecoder(model, layout.with_grid(2, 2), Sampling())(prompts, uniforms)
    assert small.shape == (1, 2, 2)
