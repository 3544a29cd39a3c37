"""The generate stage: the same pictures for any batch size, resumable, and self-describing."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from arra_med.errors import RequestError
from arra_med.generation import generate as stage
from arra_med.generation.folder import GeneratedFolder
from arra_med.generation.generate import generate
from arra_med.images import decode_png
from arra_med.model.backbones import build_backbone
from arra_med.model.export import load_export, write_export
from arra_med.settings import Backbone, Generation, Llama
from arra_med.store import PreparedFolder
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions
from tests.test_store import contents

CPU = torch.device("cpu")
SETTINGS = {"guidance": 2.0, "top_k": 8, "images_per_prompt": 2}


@pytest.fixture
def export(prepared: PreparedFolder, tmp_path: Path) -> Path:
    options = MonaiVqvaeOptions(
        channels=(8, 8, 8), residual_layers=1, num_codes=16, code_dimension=8
    )
    tokenizer = MonaiVqvae.create(options, image_size=32, channels=1, seed=0)
    tokenizer.save(tmp_path / "tokenizer")
    llama = Llama(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, text_vocabulary=300
    )
    model, text_tokenizer, layout = build_backbone(
        Backbone(llama=llama), prompts=[row["prompt"] for row in prepared.rows("train")],
        num_codes=16, grid=tokenizer.grid, with_rep=False, seed=0,
    )  # fmt: skip
    info = {
        "prompt_dropout": 0.1, "max_prompt_tokens": 64, "long_prompts": "refuse", "teacher": None,
    }  # fmt: skip
    write_export(
        tmp_path / "export", model=model, state_dict=model.state_dict(),
        text_tokenizer=text_tokenizer, image_tokenizer=tmp_path / "tokenizer", layout=layout,
        info=info,
    )  # fmt: skip
    return tmp_path / "export"


def run(prepared: PreparedFolder, export: Path, folder: Path, seed: int = 0, **settings) -> dict:
    chosen = Generation(**(SETTINGS | settings))
    return generate(chosen, prepared, export, folder, seed=seed, device=CPU)


def test_any_batch_size_draws_the_same_pictures(
    prepared: PreparedFolder, export: Path, tmp_path: Path
) -> None:
    for size in (1, 3, 16):
        run(prepared, export, tmp_path / f"b{size}", batch_size=size)
    assert contents(tmp_path / "b1") == contents(tmp_path / "b3") == contents(tmp_path / "b16")


def test_the_folder_says_what_it_holds(
    prepared: PreparedFolder, export: Path, tmp_path: Path
) -> None:
    manifest = run(prepared, export, tmp_path / "g")
    generated = GeneratedFolder(tmp_path / "g")
    expected = [(row["key"], i) for row in prepared.rows("test") for i in range(2)]
    assert [(row["key"], row["index"]) for row in generated.rows] == expected
    first = generated.rows[0]
    assert first["file"] == f"images/{first['key']}-0.png"
    assert (first["seed"], first["guidance"], first["top_k"]) == (0, 2.0, 8)
    assert first["prompt"] == prepared.row(first["key"])["prompt"]
    assert decode_png(generated.png(first)).shape == (32, 32, 1)
    assert manifest["config"]["model"]["content_hash"] == load_export(export, CPU).content_hash
    assert manifest["counts"] == {"images": 16}


def test_interrupted_and_resumed_gives_the_same_set(
    prepared: PreparedFolder, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "PART_SIZE", 4)
    run(prepared, export, tmp_path / "whole")
    drawn = []

    def draw_twice(*arguments):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(1)
        return draw(*arguments)

    draw = stage.draw
    monkeypatch.setattr(stage, "draw", draw_twice)
    with pytest.raises(KeyboardInterrupt):
        run(prepared, export, tmp_path / "stopped")
    monkeypatch.setattr(stage, "draw", draw)
    run(prepared, export, tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_another_seed_or_setting_is_another_folder(
    prepared: PreparedFolder, export: Path, tmp_path: Path
) -> None:
    run(prepared, export, tmp_path / "g")
    with pytest.raises(RequestError, match=r"guidance \(2.0 there, 3.0 asked for\)"):
        run(prepared, export, tmp_path / "g", guidance=3.0)
    run(prepared, export, tmp_path / "other", seed=1)
    names = [row["file"] for row in GeneratedFolder(tmp_path / "g").rows]
    assert any(
        (tmp_path / "g" / n).read_bytes() != (tmp_path / "other" / n).read_bytes() for n in names
    )


def test_a_limit_takes_prompts_evenly(
    prepared: PreparedFolder, export: Path, tmp_path: Path
) -> None:
    run(prepared, export, tmp_path / "g", limit=3, images_per_prompt=1)
    rows = prepared.rows("test")
    table = pq.read_table(tmp_path / "g" / "generations.parquet")
    assert table["key"].to_pylist() == [rows[0]["key"], rows[4]["key"], rows[7]["key"]]


def test_guidance_without_dropped_prompts_is_warned_of(
    prepared: PreparedFolder, export: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import json

    arra = export / "arra.json"
    arra.write_text(json.dumps(json.loads(arra.read_text()) | {"prompt_dropout": 0}))
    run(prepared, export, tmp_path / "g", limit=1)
    assert "never saw a dropped prompt" in caplog.text


def test_what_is_missing_is_named(prepared: PreparedFolder, export: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no exported model at .*arra-med train"):
        run(prepared, tmp_path / "none", tmp_path / "g")
    run(prepared, export, tmp_path / "g")
    row = GeneratedFolder(tmp_path / "g").rows[0]
    (tmp_path / "g" / row["file"]).unlink()
    with pytest.raises(RequestError, match="1 of 16 pictures are missing"):
        GeneratedFolder(tmp_path / "g")


def test_parts_that_do_not_belong_together_are_refused(
    prepared: PreparedFolder, export: Path, tmp_path: Path
) -> None:
    options = MonaiVqvaeOptions(
        channels=(8, 8, 8), residual_layers=1, num_codes=32, code_dimension=8
    )
    MonaiVqvae.create(options, image_size=32, channels=1, seed=0).save(export / "image_tokenizer")
    with pytest.raises(RequestError, match="does not fit together"):
        load_export(export, CPU)
