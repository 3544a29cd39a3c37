"""A diffusers pipeline as a peer: the same folder, the same rules."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from arra_med.errors import RequestError
from arra_med.generation.diffusers_pipeline import DiffusersPipeline, _generator
from arra_med.generation.folder import GeneratedFolder
from arra_med.generation.generator import Generator
from arra_med.settings import Generation
from arra_med.settings.results import Diffusers
from arra_med.store import PreparedFolder, Shard
from tests.generation.conftest import Run
from tests.generation.tiny_pipeline import write_pipeline
from tests.test_store import contents

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("sd") / "tiny-sd")


@pytest.fixture
def draw(run: Run, pipeline: Path) -> Run:
    def start(name: str, **settings: object) -> dict:
        chosen = {"diffusers": Diffusers(pipeline=pipeline, steps=2), "top_k": 2000}
        return run(name, **(chosen | settings))

    return start


def test_it_writes_the_same_folder_as_our_models(
    draw: Run, prepared: PreparedFolder, tmp_path: Path
) -> None:
    manifest = draw("g", limit=2)
    assert manifest["config"]["model"]["pipeline"] == "StableDiffusionPipeline"
    assert manifest["config"]["diffusers"] == {"steps": 2}
    rows = GeneratedFolder(tmp_path / "g").rows
    assert len(rows) == 4
    assert (rows[0]["guidance"], rows[0]["top_k"]) == (2.0, None)
    with Image.open(tmp_path / "g" / rows[0]["file"]) as picture:
        assert (picture.size, picture.mode) == ((32, 32), "L")  # grey, as the prepared folder
        assert picture.text["model"] == "tiny-sd"
    assert (tmp_path / "g" / "contact-sheet.png").is_file()


def test_a_picture_depends_on_nothing_but_itself(draw: Run, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("left effusion.\nclear.\nedema.\n")
    shared = {"prompts": tmp_path / "p.txt", "part_size": 2}
    draw("whole", batch_size=4, **shared)
    for index in (1, 0):
        draw("shared", shard=Shard(index, 2), **shared)
    draw("shared", batch_size=1, **shared)
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


def test_pixels_are_those_of_the_pipeline_itself(draw: Run, pipeline: Path, tmp_path: Path) -> None:
    draw("g", prompt="left effusion.", size=(16, 32))
    plain = StableDiffusionPipeline.from_pretrained(pipeline)
    plain.set_progress_bar_config(disable=True)
    request = SimpleNamespace(seed=0, index=1, prompt=SimpleNamespace(key="prompt-00001"))
    expected = plain(
        "left effusion.", num_inference_steps=2, guidance_scale=2.0, height=16, width=32,
        generator=_generator(request),
    ).images[0]  # fmt: skip
    found = Image.open(tmp_path / "g" / "images" / "prompt-00001-1.png")
    assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_the_safety_checker_s_black_pictures_are_counted(
    draw: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = StableDiffusionPipeline.__call__

    def flag(self, *args, **kwargs):
        output = call(self, *args, **kwargs)
        output.nsfw_content_detected = [True] * len(output.images)
        return output

    flag.__signature__ = __import__("inspect").signature(call)
    monkeypatch.setattr(StableDiffusionPipeline, "__call__", flag)
    assert draw("g", prompt="clear.")["counts"] == {"images": 2, "withheld": 2}


def test_long_prompts_are_refused_or_cut_and_counted(draw: Run) -> None:
    with pytest.raises(RequestError, match="longer than the 77 tokens"):
        draw("g", prompt="a" * 100)
    counts = draw("g", prompt="a" * 100, long_prompts="truncate")["counts"]
    assert counts == {"images": 2, "truncated_prompts": 1}


@pytest.mark.parametrize("wrong", [{"top_k": 8}, {"top_p": 0.9}, {"temperature": 0.5}])
def test_options_of_models_that_draw_codes_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="a diffusers pipeline draws no codes"):
        Generation(diffusers=Diffusers(pipeline=Path("sd")), **wrong)


def test_folders_that_are_none_or_bring_code_are_refused(tmp_path: Path) -> None:
    def open_(folder: Path) -> DiffusersPipeline:
        return DiffusersPipeline(Generation(diffusers=Diffusers(pipeline=folder)), CPU)

    with pytest.raises(FileNotFoundError, match=r"model_index\.json is missing"):
        open_(tmp_path)
    index = {"_class_name": ["pipeline", "Mine"], "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(RequestError, match="_class_name comes with code of its own"):
        open_(tmp_path)
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["my_unet", "Mine"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(RequestError, match="unet comes with code of its own"):
        open_(tmp_path)
    index = {"_class_name": "NoSuchPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(RequestError, match="diffusers cannot open"):
        _ = open_(tmp_path).pipeline


def test_pipelines_that_do_not_draw_from_text_are_refused(pipeline: Path, tmp_path: Path) -> None:
    index = json.loads((pipeline / "model_index.json").read_text())
    folder = tmp_path / "img2img"
    folder.mkdir()
    for part in pipeline.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / "model_index.json").unlink()
    index["_class_name"] = "StableDiffusionImg2ImgPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    backend = DiffusersPipeline(Generation(diffusers=Diffusers(pipeline=folder)), CPU)
    with pytest.raises(RequestError, match="does not draw pictures from text"):
        _ = backend.pipeline


def test_from_python(pipeline: Path) -> None:
    generator = Generator.from_pipeline(pipeline, steps=2, device=CPU)
    (first,), (again,) = (generator(["clear."], seed=3) for _ in range(2))
    assert first.codes is None
    assert first.png == again.png
