"""A published checkpoint of Chameleon's family draws as it is: no training, no prepared folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ChameleonForConditionalGeneration

from arra_med.config import PluginConfig, load
from arra_med.errors import RequestError
from arra_med.generation.folder import GeneratedFolder
from arra_med.generation.generate import generate
from arra_med.generation.generator import Generator
from arra_med.generation.source import find_source
from arra_med.model.describe import describe_checkpoint
from arra_med.settings import Generation, Settings
from arra_med.tokenizers.chameleon_vq import ChameleonVqOptions
from tests.model.chameleon_files import Checkpoint
from tests.tokenizers.meta_vqgan import VqGan, save_ckpt

CPU = torch.device("cpu")
RECIPE = Path(__file__).parents[2] / "scripts" / "mimic_cxr" / "arra_adapt_generate.yaml"


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A checkpoint with 16 codes as ARRA's authors store theirs, in the asset folder."""
    folder = tmp_path / "assets" / "xing0916__ARRA-Adapt-MIMIC-7B"
    Checkpoint(with_vq=False).write(folder)
    (folder / "asset.json").write_text("{}")
    return folder


@pytest.fixture
def vqgan(tmp_path: Path) -> Path:
    """Meta's kind of image tokenizer with the same 16 codes, 2 × 2 px each."""
    model = VqGan(ch=32, multipliers=(1, 1), z=16, dimension=8, codes=16)
    folder = tmp_path / "assets" / "meta__chameleon-tokenizer"
    save_ckpt(model, folder / "vqgan.ckpt")
    (folder / "asset.json").write_text("{}")
    return folder / "vqgan.ckpt"


def settings(tmp_path: Path, *overrides: str) -> Settings:
    """The recipe as it is shipped, with small pictures."""
    given = [f"paths.output={tmp_path}", "generation.size=[16, 24]", "generation.top_k=8"]
    return load(Settings, RECIPE, ["device=cpu", *given, *overrides])


@pytest.fixture(autouse=True)
def _assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").mkdir()
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path / "assets"))


def test_it_draws_from_one_command(hub: Path, vqgan: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path, "generation.prompt=PA view", "generation.images_per_prompt=2")
    manifest = generate(chosen, tmp_path / "g", device=CPU)
    assert manifest["counts"] == {"images": 2}
    model = manifest["config"]["model"]
    assert model["name"] == "xing0916/ARRA-Adapt-MIMIC-7B"
    assert "teacher" not in model  # the checkpoint does not say, so neither do we
    picture = np.asarray(Image.open(tmp_path / "g" / "images" / "prompt-00001-0.png"))
    assert picture.shape == (16, 24)  # one channel: the recipe is for chest films


def test_it_is_said_to_draw_once_its_decoder_is_there(hub: Path, tmp_path: Path) -> None:
    assert not describe_checkpoint(hub).can_generate
    (tmp_path / "assets" / "meta__chameleon-tokenizer").mkdir()
    (tmp_path / "assets" / "meta__chameleon-tokenizer" / "asset.json").write_text("{}")
    assert describe_checkpoint(hub).can_generate


def test_codes_are_those_of_transformers_own_chameleon(hub: Path, vqgan: Path) -> None:
    """Greedy, without guidance: the first code is the likeliest by transformers' logits."""
    plugin = PluginConfig(name="chameleon-vq", options=ChameleonVqOptions(weights=vqgan))
    generator = Generator.from_export(
        hub, tokenizer=plugin, device=CPU, temperature=0, top_k=0, guidance=1, size=(4, 4)
    )
    (picture,) = generator(["the"])
    weights = Checkpoint(with_vq=False)
    vocabulary = weights.vocabulary
    names = ["<s>", "the", "<reserved08706>", "<racm3:break>", "<reserved08801>"]
    from tests.model.chameleon_files import code_name, plain_config

    plain = ChameleonForConditionalGeneration(plain_config(weights)).eval()
    state = {
        name: tensor[0].expand(4, -1) if "_norm" in name and tensor.ndim == 2 else tensor
        for name, tensor in weights.weights().items()
    }
    plain.load_state_dict(state, strict=False)
    ids = torch.tensor([[vocabulary[name] for name in [*names, "<reserved08801>"]]])
    with torch.no_grad():
        hidden = plain.model(input_ids=ids).last_hidden_state[:, -1]
        logits = plain.lm_head(hidden)[0]
    codes = [vocabulary[code_name(code)] for code in range(16)]
    assert picture.codes.shape == (2, 2)
    assert picture.codes[0, 0] == int(logits[codes].argmax())


def test_the_hash_changes_with_the_weights(hub: Path, vqgan: Path) -> None:
    plugin = PluginConfig(name="chameleon-vq", options=ChameleonVqOptions(weights=vqgan))
    first = find_source(hub, Generation(), plugin)
    again = find_source(Path("xing0916/ARRA-Adapt-MIMIC-7B"), Generation(), plugin)
    assert first.content_hash == again.content_hash
    Checkpoint(with_vq=False, seed=1).write(hub)
    assert find_source(hub, Generation(), plugin).content_hash != first.content_hash


def test_what_is_missing_or_does_not_fit_is_named(hub: Path, vqgan: Path, tmp_path: Path) -> None:
    out = tmp_path / "g"
    prompt = "generation.prompt=a"
    other = settings(tmp_path, prompt, "tokenizer.plugin={name: monai-vqvae}")
    with pytest.raises(RequestError, match=r"set tokenizer\.plugin\.name to chameleon-vq"):
        generate(other, out, device=CPU)
    with pytest.raises(RequestError, match="multiples of 2 px"):
        generate(settings(tmp_path, prompt, "generation.size=[5, 4]"), out, device=CPU)
    with pytest.raises(RequestError, match="codes do not fit this checkpoint"):
        generate(settings(tmp_path, prompt, "generation.size=[6, 4]"), out, device=CPU)
    larger = save_ckpt(
        VqGan(ch=32, multipliers=(1, 1), z=16, dimension=8, codes=32), tmp_path / "l" / "vqgan.ckpt"
    )
    options = f"tokenizer.plugin={{name: chameleon-vq, weights: {larger}}}"
    with pytest.raises(RequestError, match="16 codes, the image tokenizer has 32"):
        generate(settings(tmp_path, prompt, options), out, device=CPU)
    vqgan.unlink()
    with pytest.raises(FileNotFoundError, match="no VQ-GAN at"):
        generate(settings(tmp_path, prompt), out, device=CPU)
    shutil.rmtree(hub)
    with pytest.raises(FileNotFoundError, match="at a published checkpoint"):
        generate(settings(tmp_path, prompt), out, device=CPU)


def test_an_encoder_alone_cannot_draw(hub: Path, vqgan: Path, tmp_path: Path) -> None:
    with_encoder = tmp_path / "with-encoder"
    Checkpoint(with_vq=True).write(with_encoder)
    options = f"tokenizer.plugin={{name: chameleon-vq, weights: {with_encoder}}}"
    chosen = settings(tmp_path, "generation.prompt=a", options)
    with pytest.raises(RequestError, match=r"encoder only.*decoder_weights"):
        generate(chosen, tmp_path / "g", device=CPU)


def test_other_models_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(RequestError, match=r"language model \(llama\) that has no tokens for"):
        find_source(tmp_path / "llm", Generation(), None)
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "model_index.json").write_text("{}")
    with pytest.raises(RequestError, match=r"set generation\.diffusers\.pipeline"):
        find_source(tmp_path / "sd", Generation(), None)


def test_prompts_may_fill_the_rest_of_the_context(hub: Path, vqgan: Path, tmp_path: Path) -> None:
    Checkpoint(with_vq=False, context=40).write(hub)
    prompt = "a" * 200
    chosen = settings(tmp_path, "generation.size=[8, 8]", f"generation.prompt={prompt}")
    # <s> and the prompt, its end, the start and two sizes, 4 rows of 4 codes and a row end, two
    # tokens at the end: 40 = 14 + 1 + 3 + 20 + 2
    with pytest.raises(RequestError, match="longer than the 14 tokens"):
        generate(chosen, tmp_path / "g", device=CPU)
    cut = settings(
        tmp_path, "generation.size=[8, 8]", f"generation.prompt={prompt}",
        "generation.long_prompts=truncate",
    )  # fmt: skip
    counts = generate(cut, tmp_path / "g", device=CPU)["counts"]
    assert counts == {"images": 1, "truncated_prompts": 1}
    assert len(GeneratedFolder(tmp_path / "g").rows) == 1
