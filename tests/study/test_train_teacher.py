"""The study's teachers: losses against naive loops, and folders that the package's loaders read."""

import importlib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from arra_med.config import PluginConfig
from arra_med.images import decode_png
from arra_med.picture_loader import to_picture
from arra_med.registry import IMAGE_TEXT_ENCODERS, TEACHERS
from arra_med.schema import CHEXPERT_LABELS, Sample, Split
from arra_med.settings import Features
from arra_med.store import PreparedFolder
from arra_med.teachers.cache import teacher_model
from tests.conftest import write_prepared
from tests.prepared import save_prepared

STUDY = Path(__file__).parents[2] / "scripts" / "study"
SMALL = {
    "vision-model": "test_vit", "embed-dim": 16, "text-width": 64, "text-layers": 1,
    "context-length": 24, "batch-size": 12, "learning-rate": 2e-3, "device": "cpu",
}  # fmt: skip
NAMES = ("teacher_training", "teacher_folder", "teacher_quality", "train_teacher")


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules, found as when one of them is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDY))
        yield {name: importlib.import_module(name) for name in NAMES}
        for name in NAMES:
            del sys.modules[name]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    return write_prepared(tmp_path_factory.mktemp("films") / "prepared", num=100)


Command = Callable[..., int]


@pytest.fixture(scope="module")
def command(scripts: dict[str, ModuleType]) -> Command:
    def train(prepared: Path, output: Path, objective: str = "text", *more: str) -> int:
        given = ["--prepared", str(prepared), "--output", str(output), "--objective", objective]
        small = [f"--{name}={value}" for name, value in SMALL.items()]
        return scripts["train_teacher"].main([*given, *small, *more])

    return train


@pytest.fixture(scope="module")
def folders(
    command: Command, films: PreparedFolder, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A teacher of each objective; making them leaves the global random state alone."""
    root = tmp_path_factory.mktemp("teachers")
    before = torch.get_rng_state()
    epochs = {"text": "5", "augmentation": "2", "labels": "5"}
    for objective, number in epochs.items():
        assert command(films.folder, root / objective, objective, "--epochs", number) == 0
    assert torch.equal(torch.get_rng_state(), before)
    return {objective: root / objective for objective in epochs}


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


@pytest.fixture(scope="module")
def pixels(films: PreparedFolder, folders: dict[str, Path]) -> torch.Tensor:
    """Four pictures as the text teacher takes them."""
    transform = teacher(folders["text"]).transform
    return torch.stack([transform(to_picture(png)) for _, png in films.read_part(0)[:4]])


def teacher(folder: Path) -> Any:
    options = TEACHERS.get("biomedclip").Options(weights=folder)
    return teacher_model(Features(teacher=PluginConfig(name="biomedclip", options=options)))


def small_sizes(scripts: dict[str, ModuleType]) -> Any:
    return scripts["teacher_folder"].Sizes(
        vision_model="test_vit", embed_dim=16, text_width=64, text_layers=1, vocabulary=4000,
        context_length=24,
    )  # fmt: skip


def test_equal_prompts_are_no_negatives(scripts: dict[str, ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, 5, 7, generator=generator)
    prompts, scale = torch.tensor([3, 1, 3, 0, 3]), 4.0
    cosines = scale * F.normalize(image) @ F.normalize(text).T
    total = 0.0
    for logits in (cosines, cosines.T):
        for row in range(5):
            others = [
                logits[row, column].exp()
                for column in range(5)
                if column == row or prompts[column] != prompts[row]
            ]
            total -= math.log(logits[row, row].exp() / sum(others)) / 10
    loss = scripts["teacher_training"].image_text_loss(image, text, prompts, torch.tensor(scale))
    assert loss.item() == pytest.approx(total, rel=1e-5)


def test_a_batch_of_one_prompt_has_no_loss(scripts: dict[str, ModuleType]) -> None:
    image = torch.randn(4, 3, requires_grad=True)
    same = torch.zeros(4, dtype=torch.int64)
    loss = scripts["teacher_training"].image_text_loss(
        image, torch.randn(4, 3), same, torch.tensor(5.0)
    )
    loss.backward()
    assert loss.item() == 0
    assert image.grad is not None
    assert not image.grad.any()


def test_two_views_against_a_loop(scripts: dict[str, ModuleType]) -> None:
    first, second = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    vectors = F.normalize(torch.cat([first, second]))
    total = 0.0
    for row in range(8):
        logits = {other: vectors[row] @ vectors[other] / 0.2 for other in range(8) if other != row}
        own = logits[(row + 4) % 8].exp()
        total -= math.log(own / sum(logit.exp() for logit in logits.values())) / 8
    assert scripts["teacher_training"].two_views_loss(first, second, 0.2).item() == pytest.approx(
        total
    )


def test_unknown_labels_are_left_out_of_the_loss(scripts: dict[str, ModuleType]) -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    labels = torch.tensor([[1, -1], [0, -1]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(0.5))) / 2
    loss = scripts["teacher_training"].findings_loss(logits, labels)
    assert loss.item() == pytest.approx(expected)


def test_views_without_change_are_the_pictures(scripts: dict[str, ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=generator)
    none = scripts["teacher_training"].Augmentation()
    views = scripts["teacher_training"].draw_views(pictures, 8, none, generator)
    assert views.shape == (3, 3, 8, 8)
    torch.testing.assert_close(views[:, :1] * 255, pictures.float(), atol=1e-2, rtol=0)


def test_views_keep_the_side_and_the_range(scripts: dict[str, ModuleType]) -> None:
    pictures = torch.zeros(64, 1, 32, 32, dtype=torch.uint8)
    pictures[..., :12] = 200  # bright on the left
    for how in (scripts["teacher_training"].MILD, scripts["teacher_training"].STRONG):
        views = scripts["teacher_training"].draw_views(
            pictures, 40, how, torch.Generator().manual_seed(3)
        )
        assert views.min() >= 0
        assert views.max() <= 1
        assert (views[..., :10].mean((1, 2, 3)) > views[..., 30:].mean((1, 2, 3)) + 0.2).all()
        assert len({view.numpy().tobytes() for view in views}) == 64


def test_the_vocabulary_is_the_same_every_time(scripts: dict[str, ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(97, 107, (600, 30), generator=generator).tolist()
    texts = ["".join(map(chr, row[:5])) + " " + "".join(map(chr, row[5:])) for row in letters]
    learn = scripts["teacher_folder"].learn_vocabulary
    vocabulary = learn(texts, 2000)
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(vocabulary)) == len(vocabulary) <= 2000
    assert all(learn(texts, 2000) == vocabulary for _ in range(3))


@pytest.mark.parametrize("objective", ["text", "augmentation", "labels"])
def test_the_loss_falls(folders: dict[str, Path], objective: str) -> None:
    losses = read(folders[objective] / "training.json")["losses"]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("objective", ["text", "augmentation", "labels"])
def test_the_folder_is_a_teacher_and_an_image_text_encoder(
    folders: dict[str, Path], pixels: torch.Tensor, objective: str
) -> None:
    model = teacher(folders[objective])
    assert model.info.aggregations == ("cls", "mean")
    vectors = model(pixels)
    assert vectors["cls"].shape == vectors["mean"].shape == (4, 64)
    plugin = IMAGE_TEXT_ENCODERS.get("biomedclip")
    encoder = plugin(plugin.Options(weights=folders[objective]))
    assert encoder.context == 24
    assert encoder(pixels).shape == (4, 16)
    texts = encoder.encode_texts(["PA view chest x-ray image, left effusion.", "clear. " * 20])
    assert texts.vectors.shape == (2, 16)
    assert texts.truncated == 1


def test_open_clip_itself_gives_the_same_vectors(
    folders: dict[str, Path], pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders["text"])
    model = open_clip.create_model("local-dir:.").eval()
    tokens = open_clip.get_tokenizer("local-dir:.")(["AP view, clear.", "no acute finding."])
    plugin = IMAGE_TEXT_ENCODERS.get("biomedclip")
    encoder = plugin(plugin.Options(weights=folders["text"]))
    with torch.inference_mode():
        image, text = model.encode_image(pixels, normalize=True), model.encode_text(tokens)
        torch.testing.assert_close(image, F.normalize(encoder(pixels)))
        ours = encoder.encode_texts(["AP view, clear.", "no acute finding."]).vectors
        torch.testing.assert_close(F.normalize(text), torch.from_numpy(ours))


def test_training_and_loading_prepare_pictures_alike(
    scripts: dict[str, ModuleType], films: PreparedFolder, folders: dict[str, Path],
    pixels: torch.Tensor,
) -> None:  # fmt: skip
    config = read(folders["text"] / "open_clip_config.json")["preprocess_cfg"]
    pictures = torch.stack(
        [torch.tensor(decode_png(png)).permute(2, 0, 1) for _, png in films.read_part(0)[:4]]
    )
    training = scripts["teacher_training"]
    data = training.TrainingData(
        pixels=pictures, ids=torch.zeros(4, 1), prompts=torch.zeros(4),
        labels=torch.zeros(4, 1), **config,
    )  # fmt: skip
    views = data.views(torch.arange(4), 160, training.Augmentation(), torch.Generator())
    # Pillow and torch enlarge with another cubic
    assert (views - pixels).abs().mean() < 0.1
    assert torch.corrcoef(torch.stack([views.flatten(), pixels.flatten()]))[0, 1] > 0.99


def test_of_augmentation_the_text_tower_stays_as_it_was(
    scripts: dict[str, ModuleType], folders: dict[str, Path]
) -> None:
    saved = {name: weights(folder) for name, folder in folders.items()}
    assert {name: tensor.shape for name, tensor in saved["text"].items()} == {
        name: tensor.shape for name, tensor in saved["augmentation"].items()
    }
    sizes = small_sizes(scripts)
    words = len((folders["text"] / "vocab.txt").read_text().splitlines())
    visual, text = scripts["teacher_folder"].build_towers(sizes, words, 0)
    for name, tensor in text.state_dict().items():
        assert torch.equal(saved["augmentation"][f"text.{name}"], tensor.half())
        assert torch.equal(saved["labels"][f"text.{name}"], tensor.half())
    moved = [
        not torch.equal(saved[objective][f"visual.{name}"], tensor)
        for objective in folders
        for name, tensor in visual.state_dict().items()
        if name.startswith("trunk.")
    ]
    assert all(moved)


def test_quality_says_what_the_teacher_sees(folders: dict[str, Path]) -> None:
    text, views = (read(folders[name] / "quality.json") for name in ("text", "augmentation"))
    assert "retrieval" not in views
    assert text["pictures"] == {"train": 60, "validate": 20}
    for aggregation in ("cls", "mean"):
        assert text[aggregation]["auroc"]["Pleural Effusion"] > 0.9
        assert 0 <= views[aggregation]["view_accuracy"] <= 1
        assert views[aggregation]["side_accuracy"] is None  # their prompts name no side
    assert text["retrieval"]["prompts"] == 4
    assert 0 <= text["retrieval"]["recall@1"] <= text["retrieval"]["recall@5"] == 1


def test_a_probe_tells_sides_that_vectors_hold_and_no_others(scripts: dict[str, Any]) -> None:
    """Of a finding that is there on one side of a frontal film, as the prompt says."""
    rows = [
        {
            "prompt": f"{side} pleural effusion. Left pneumothorax.",
            "labels": {"Pleural Effusion": 1, "Pneumothorax": present},
            "view": view,
        }
        for side in ("Left", "Right") * 20
        for view in ("PA", "lateral")
        for present in (0, 1)
    ]
    sides = np.array([row["prompt"].startswith("Left") for row in rows], np.float32)
    names = ["Pleural Effusion", "Pneumothorax", "Cardiomegaly"]
    for row in rows:
        row["labels"]["Cardiomegaly"] = 1
    probe = scripts["teacher_quality"]._probe_sides
    noise = np.random.default_rng(0).normal(size=(len(rows), 3)).astype(np.float32)
    told = probe(names, np.c_[noise, sides], rows, np.c_[noise, sides], rows)
    assert told == {"side_accuracy": 1.0, "side": {"Pleural Effusion": 1.0}}
    fresh = np.random.default_rng(1).normal(size=(len(rows), 3)).astype(np.float32)
    assert probe(names, noise, rows, fresh, rows)["side_accuracy"] == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("vectors", "loss", "dimensions"),
    [([[1, 0], [-1, 0], [0, 1], [0, -1]], 1, 2), ([[1, 0], [3, 0]], 0, 1)],
)
def test_the_spread_of_vectors_by_hand(
    scripts: dict[str, Any], vectors: list[list[float]], loss: float, dimensions: float
) -> None:
    found = scripts["teacher_quality"]._spread(np.array(vectors, np.float32))
    assert found["constant_loss"] == pytest.approx(loss)
    assert found["dimensions"] == pytest.approx(dimensions)


def test_the_same_seed_gives_the_same_weights(
    command: Command, prepared: PreparedFolder, tmp_path: Path
) -> None:
    one, again = tmp_path / "one", tmp_path / "again"
    for folder in (one, again):
        assert command(prepared.folder, folder, "text", "--epochs=1", "--batch-size=8") == 0
    saved = weights(again)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in weights(one).items())
    assert (one / "tokenizer.json").read_bytes() == (again / "tokenizer.json").read_bytes()
    assert read(one / "quality.json")["cls"]["macro_auroc"] is None  # too few pictures


def test_another_seed_starts_elsewhere(scripts: dict[str, ModuleType]) -> None:
    sizes = small_sizes(scripts)
    heads = [scripts["teacher_folder"].build_towers(sizes, 9, seed)[0].head for seed in (0, 0, 1)]
    first, same, other = (head.proj.weight for head in heads)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_finished_folder_stays_and_other_arguments_are_refused(
    command: Command,
    films: PreparedFolder,
    folders: dict[str, Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folders["text"].iterdir()}
    caplog.set_level(logging.INFO)
    assert command(films.folder, folders["text"], "text", "--epochs", "5") == 0
    assert "finished already" in caplog.text
    assert command(films.folder, folders["text"], "text", "--epochs", "9") == 2
    assert "epochs (5 there, 9 asked for)" in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in folders["text"].iterdir()}


def test_errors_say_what_to_do(
    command: Command, films: PreparedFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(prepared: Path, *more: str, output: str = "out") -> str:
        caplog.clear()
        assert command(prepared, tmp_path / output, "text", *more) == 2
        assert not (tmp_path / "out").exists()
        return caplog.text

    assert "no prepared pictures at" in refused(tmp_path / "nowhere")
    assert "expected 2 to 60" in refused(films.folder, "--batch-size", "500")
    assert "--epochs must be positive" in refused(films.folder, "--epochs", "0")
    assert "no plain vision transformer" in refused(films.folder, "--vision-model", "resnet18")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    assert "is no teacher" in refused(films.folder, output="mine")

    one_text = save_prepared(
        tmp_path / "one-text", [film(i, "train") for i in range(20)] + [film(20, "validate")]
    )
    assert "1 distinct prompt" in refused(one_text.folder)
    assert command(one_text.folder, tmp_path / "out", "labels", "--batch-size=8") == 2
    assert "no training picture" in caplog.text
    alone = save_prepared(tmp_path / "train-alone", [film(i, "train") for i in range(20)])
    assert "split 'validate' is empty" in refused(alone.folder)


def film(number: int, split: Split) -> tuple[Sample, np.ndarray]:
    """A picture of one prompt and no known label."""
    sample = Sample(
        key=f"p{number}", patient_id=f"p{number}", study_id="s", split=split, view=None,
        prompt="clear.", prompt_source="impression", labels=dict.fromkeys(CHEXPERT_LABELS),
        modality="cxr", source="i.png",
    )  # fmt: skip
    return sample, np.full((32, 32, 1), number, np.uint8)
