"""LoRA: what is frozen stays, what is trained learns as in the plain model, the merge is exact."""

import copy
import functools
import json
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, PhiConfig, PreTrainedModel

from arra_med.alignment import ArraModel
from arra_med.cli.main import main
from arra_med.errors import RequestError
from arra_med.model.backbones import build_backbone, extend_vocabulary
from arra_med.model.layout import ImageLayout
from arra_med.model.lora import add_lora, image_rows, merged_state, remove_lora, target_names
from arra_med.settings import Alignment, Backbone, Lora
from arra_med.training.checkpoints import complete_checkpoints
from tests.conftest import write_prepared
from tests.model.test_contract import CONFIGS, ROWS, SIZES, examples, save_hub_folder
from tests.pipeline import write_config
from tests.training.ranks import run
from tests.training.test_resume import at_step

LORA = Lora(rank=2, alpha=6)
FAMILIES = {
    **{name: CONFIGS[name] for name in ("gpt2", "llama", "llama-tied", "gemma3")},
    "phi": PhiConfig(**SIZES, intermediate_size=32),  # its head has a bias
}
SCATTERED = ImageLayout(
    start_ids=(9, 33), end_ids=(10, 5), code_ids=(70, 40, 41, 42, 12, 299, 43, 44), grid=(2, 2),
    pad_id=0, row_end_ids=(11,), size_ids=(30, 31, 32, 33), prompt_end_ids=(5,),
)  # fmt: skip
"""Image tokens in the middle of the text's, as Chameleon has them; 5 also closes a prompt."""


def plain_model(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES[family])).eval()


def adapted(family: str) -> PreTrainedModel:
    model = plain_model(family)
    add_lora(model, LORA, SCATTERED, seed=0)
    return model


def shake(model: nn.Module, size: float = 0.3) -> None:
    """Give what is trained other values, as training does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn(parameter.shape, generator=generator)


IDS = torch.tensor([[1, 9, 33, 40, 70, 299, 12, 0], [5, 2, 9, 30, 12, 44, 11, 10]])


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def test_adding_lora_changes_no_output_and_no_generator(family: str) -> None:
    state = torch.get_rng_state()
    model = adapted(family)
    plain = plain_model(family)
    torch.testing.assert_close(model(IDS).logits, plain(IDS).logits, rtol=1e-5, atol=1e-6)
    torch.set_rng_state(state)
    add_lora(plain, LORA, SCATTERED, seed=0)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was moved"
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_what_is_trained_is_adapters_and_image_rows(family: str) -> None:
    model = adapted(family)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    adapters = {name for name in trained if ".lora_A." in name or ".lora_B." in name}
    assert {name.rpartition(".")[2] for name in trained - adapters} <= {"rows", "row_biases"}
    linear = [m for block in adapted_blocks(model) for m in block.modules() if hasattr(m, "lora_A")]
    assert len(adapters) == 2 * len(linear) > 0
    rows = [m for m in model.modules() if hasattr(m, "row_ids")]
    assert len(rows) == 2
    tied = FAMILIES[family].tie_word_embeddings
    assert (rows[0].rows is rows[1].rows) == tied
    expected = [9, 10, 11, 12, 30, 31, 32, 33, 40, 41, 42, 43, 44, 70, 299]
    assert rows[0].row_ids.tolist() == [5, *expected] == image_rows(SCATTERED)


def adapted_blocks(model: PreTrainedModel) -> list[nn.Module]:
    return next(list(m) for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == 2)


def test_rows_get_the_gradients_they_have_in_the_plain_model(family: str) -> None:
    """The adapters begin as zero updates, so the plain model's gradients are the reference."""
    model, plain = adapted(family), plain_model(family)
    for each in (model, plain):
        (each(IDS).logits.float().log_softmax(-1)[..., :50].sin().mean() * 100).backward()
    ids = torch.tensor(image_rows(SCATTERED))
    split = model.get_input_embeddings(), model.get_output_embeddings()
    whole = plain.get_input_embeddings(), plain.get_output_embeddings()
    for ours, theirs in zip(split, whole, strict=True):
        torch.testing.assert_close(ours.rows.grad, theirs.weight.grad[ids], rtol=1e-4, atol=1e-6)
    if whole[1].bias is not None:
        torch.testing.assert_close(split[1].row_biases.grad, whole[1].bias.grad[ids])


def test_the_merge_is_the_published_formula_and_equals_the_adapters(family: str) -> None:
    model = adapted(family).double()  # float64: a wrong formula cannot hide behind rounding
    shake(model)
    with torch.no_grad():
        expected = model(IDS).logits
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged = merged_state(model, state)
    plain = plain_model(family).double()
    original = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    assert set(merged) == set(original)
    plain.load_state_dict(merged)
    with torch.no_grad():
        torch.testing.assert_close(plain(IDS).logits, expected, rtol=0, atol=1e-12)

    rows = torch.zeros(ROWS, dtype=torch.bool)
    rows[image_rows(SCATTERED)] = True
    changed = set()
    for name, weight in merged.items():
        prefix = name.rpartition(".")[0]
        if f"{prefix}.lora_A.default.weight" in state and name.endswith("weight"):
            b, a = (state[f"{prefix}.lora_{x}.default.weight"] for x in "BA")
            update = 6 / 2 * torch.einsum("or,ri->oi", b, a)
            update = update.T if family == "gpt2" else update  # Conv1D stores (in, out)
            torch.testing.assert_close(weight, original[name] + update, rtol=0, atol=1e-14)
            changed.add(name)
        elif weight.shape[0] == ROWS:
            assert torch.equal(weight[~rows], original[name][~rows]), name
            assert not torch.equal(weight[rows], original[name][rows]), name
        else:
            assert torch.equal(weight, original[name]), name
    assert len(changed) == 2 * {"gpt2": 4, "phi": 6}.get(family, 7)


def test_the_merge_in_float32_agrees_to_1e_5(family: str) -> None:
    """With noise of 0.05; rounding grows with the updates (gemma3: 1.3e-5 with noise of 0.3)."""
    model = adapted(family)
    shake(model, 0.05)
    plain = plain_model(family)
    plain.load_state_dict(merged_state(model, model.state_dict()))
    with torch.no_grad():
        torch.testing.assert_close(plain(IDS).logits, model(IDS).logits, rtol=0, atol=1e-5)


def test_removing_lora_gives_the_plain_model_back(family: str) -> None:
    model, plain = adapted(family), plain_model(family)
    remove_lora(model)
    assert [name for name, _ in model.named_modules()] == [n for n, _ in plain.named_modules()]
    assert torch.equal(model(IDS).logits, plain(IDS).logits)


def test_merging_half_precision_rounds_once() -> None:
    model = adapted("llama")
    shake(model)
    merged = merged_state(model, model.state_dict())
    half = merged_state(model, {n: t.bfloat16() for n, t in model.state_dict().items()})
    name = "model.layers.0.mlp.up_proj.weight"
    assert half[name].dtype == torch.bfloat16
    torch.testing.assert_close(half[name].float(), merged[name], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("family_and_head", ["llama", "llama-tied"])
def test_frozen_weights_do_not_move_under_weight_decay(
    tmp_path: Path, family_and_head: str
) -> None:
    backbone, tokenizer, layout = build_backbone(
        Backbone(pretrained=save_hub_folder(tmp_path, family_and_head), lora=LORA), prompts=[],
        num_codes=16, grid=(2, 2), with_rep=True, seed=0,
    )  # fmt: skip
    add_lora(backbone, LORA, layout, seed=0)
    assert image_rows(layout) == list(range(ROWS, layout.vocabulary_end)), "all new rows"
    before = {name: p.detach().clone() for name, p in backbone.named_parameters()}
    batch = examples(tokenizer, layout)
    model = ArraModel(backbone, Alignment(), teacher_dimension=6, z_weight=1e-5, seed=0).train()
    groups = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.5)
    for _ in range(3):
        model(batch)["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name
    merged = merged_state(backbone, backbone.state_dict())
    hub = load_file(tmp_path / "model.safetensors")
    embedding = merged["model.embed_tokens.weight"]
    assert torch.equal(embedding[:ROWS], hub["model.embed_tokens.weight"])
    assert (embedding[ROWS:] - before["model.embed_tokens.rows"]).abs().min(dim=1)[0].max() > 0


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["q_proj"], ["0.self_attn.q_proj", "1.self_attn.q_proj"]),
        (["mlp.up_proj", "layers.1.self_attn.k_proj"],
         ["0.mlp.up_proj", "1.self_attn.k_proj", "1.mlp.up_proj"]),
    ],
)  # fmt: skip
def test_target_modules_are_last_parts_of_names(wanted: list[str], expected: list[str]) -> None:
    found = target_names(plain_model("llama"), wanted)
    assert found == [f"model.layers.{name}" for name in expected]


def test_the_head_and_misspelt_names_are_no_targets() -> None:
    assert not [name for name in target_names(plain_model("llama"), None) if "head" in name]
    with pytest.raises(RequestError, match=r"is called lm_head, qproj; they are called down_proj"):
        target_names(plain_model("llama"), ["lm_head", "q_proj", "qproj"])


def test_an_embedding_that_does_something_else_is_refused() -> None:
    class Normed(nn.Embedding):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return nn.functional.normalize(super().forward(ids), dim=-1)

    model = plain_model("llama")
    model.model.embed_tokens = Normed(ROWS, 16)
    with pytest.raises(RequestError, match="cannot train single rows of Normed"):
        add_lora(model, LORA, SCATTERED, seed=0)


def test_without_peft_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RequestError, match=r"needs the package peft.*'pip install peft'"):
        adapted("llama")


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"target_modules": ()}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Lora(**wrong)
    with pytest.raises(ValueError, match="exactly one"):
        Backbone(lora=Lora())


def test_rows_extended_twice_as_large_stay_split() -> None:
    """The layer knows the vocabulary it was made for: extend first, then add LoRA."""
    model = plain_model("llama")
    extend_vocabulary(model, 400)
    add_lora(model, LORA, SCATTERED, seed=0)
    assert model(torch.tensor([[399, 9]])).logits.shape == (1, 2, 400)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    write_prepared(folder / "prepared")
    config = write_config(folder)
    for verb in ("train-tokenizer", "tokenize", "features"):
        assert main([verb, str(config), "-q"]) == 0
    save_hub_folder(folder / "hub", "llama")
    return folder


def train(pipeline: Path, name: str, *overrides: str, processes: int = 1, **more: object) -> Path:
    folder = pipeline / name
    run(
        pipeline / f"{name}.log", "train", pipeline / "config.yaml", f"paths.run={folder}",
        "backbone.llama=null", f"backbone.pretrained={pipeline / 'hub'}",
        "backbone.lora={rank: 2, dropout: 0.1}", "training.checkpoint_every=3",
        "training.zero_stage=1", *overrides, processes=processes, **more,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def lora_run(pipeline: Path) -> Path:
    return train(pipeline, "one")


def metrics(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["total"] for line in lines if "total" in line]


def test_the_run_and_its_export_say_lora(lora_run: Path) -> None:
    expected = {"rank": 2, "alpha": 32, "dropout": 0.1, "target_modules": None}
    assert json.loads((lora_run / "run.json").read_text())["backbone"]["lora"] == expected
    arra = json.loads((lora_run / "export" / "arra.json").read_text())
    assert arra["backbone"]["lora"] == expected
    assert arra["name"].startswith("hub-lora-arra-")


def test_deepspeed_moves_nothing_that_is_frozen(pipeline: Path, lora_run: Path) -> None:
    hub = load_file(pipeline / "hub" / "model.safetensors")
    export = load_file(lora_run / "export" / "model.safetensors")
    assert set(export) == set(hub)
    for name, weight in hub.items():
        same = torch.equal(export[name][: len(weight)], weight)
        assert same != ("_proj" in name), name
    assert len(export["lm_head.weight"]) == ROWS + 2 + 16


def test_checkpoints_hold_what_is_trained_alone(lora_run: Path) -> None:
    path = lora_run / "checkpoints" / "step-00000006" / "mp_rank_00_model_states.pt"
    module = torch.load(path, weights_only=True)["module"]
    parts = ("lora_A", "lora_B", "rows", "projector")
    assert module
    assert not [name for name in module if not any(part in name for part in parts)]


@pytest.mark.slow
def test_killed_after_three_steps_and_resumed_equals_six(pipeline: Path, lora_run: Path) -> None:
    kill = functools.partial(at_step, 4, signal.SIGKILL, 0)
    killed = train(pipeline, "killed", code=-signal.SIGKILL, prepare=kill)
    assert [p.name for p in complete_checkpoints(killed / "checkpoints")] == ["step-00000003"]
    train(pipeline, "killed")
    assert metrics(killed) == metrics(lora_run)
    whole = (lora_run / "export" / "model.safetensors").read_bytes()
    assert (killed / "export" / "model.safetensors").read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_a_checkpoint_of_two_ranks_exports_and_goes_on_with_one(pipeline: Path, stage: int) -> None:
    settings = (f"training.zero_stage={stage}", "backbone.lora.dropout=0")
    two = train(pipeline, f"two{stage}", *settings, processes=2)
    lora = ("backbone.llama=null", f"backbone.pretrained={pipeline / 'hub'}")
    words = [
        "export", str(pipeline / "config.yaml"), *lora, "backbone.lora={rank: 2, dropout: 0.1}",
        *settings, f"paths.run={two}", f"paths.export={two / 'x'}",
    ]  # fmt: skip
    assert main(words) == 0
    whole = (two / "export" / "model.safetensors").read_bytes()
    assert (two / "x" / "model.safetensors").read_bytes() == whole
    stop = functools.partial(at_step, 3, signal.SIGUSR1, 1)
    moved = train(pipeline, f"moved{stage}", *settings, processes=2, code=75, prepare=stop)
    train(pipeline, f"moved{stage}", *settings)
    assert metrics(moved) == pytest.approx(metrics(two), rel=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_two_processes_equal_one(pipeline: Path, stage: int) -> None:
    runs = [
        train(
            pipeline, f"zero{stage}-{processes}", f"training.zero_stage={stage}",
            "backbone.lora.dropout=0", processes=processes,
        )
        for processes in (1, 2)
    ]  # fmt: skip
    assert metrics(runs[1]) == pytest.approx(metrics(runs[0]), rel=2e-5)
    a, b = (load_file(run / "export" / "model.safetensors") for run in runs)
    for name, weight in a.items():
        torch.testing.assert_close(b[name], weight, rtol=1e-3, atol=1e-5)
