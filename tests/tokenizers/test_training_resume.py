"""A tokenizer's training: the order of pictures, and runs that were stopped and go on."""

import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.errors import RequestError, WorkError
from arra_med.images import decode_png
from arra_med.settings import Tokenizer, TokenizerTraining
from arra_med.settings.data import AdversarialTerm
from arra_med.store import PreparedFolder
from arra_med.tokenizers import train as stage
from arra_med.tokenizers.batches import TrainingOrder, training_batches
from arra_med.tokenizers.monai_vqvae import MonaiVqvaeOptions
from arra_med.tokenizers.optimise import CHECKPOINT, TokenizerTrainer
from tests.forks import ForkedProcess
from tests.test_store import contents

CPU = torch.device("cpu")
OPTIONS = MonaiVqvaeOptions(
    channels=(4, 8), residual_layers=1, num_codes=16, code_dimension=4, usage=0.01, revive_every=3
)


def settings(**training: Any) -> Tokenizer:
    chosen = {"steps": 12, "batch_size": 5, "checkpoint_every": 5, "learning_rate": 1e-3}
    adversarial = AdversarialTerm(weight=0.1, start=4, channels=4, layers=2)
    return Tokenizer(
        plugin=PluginConfig(name="monai-vqvae", options=OPTIONS),
        training=TokenizerTraining(**(chosen | {"adversarial": adversarial} | training)),
    )


def train(
    prepared: PreparedFolder, folder: Path, device: torch.device = CPU, **training: Any
) -> dict[str, Any]:
    chosen = settings(**training)
    return stage.train_tokenizer(chosen, prepared, folder, seed=0, device=device)


class Stopped(Exception):
    """Stands for a power cut."""


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    learn = TokenizerTrainer.learn

    def until(self: TokenizerTrainer, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.step == steps:
            raise Stopped
        return learn(self, images)

    monkeypatch.setattr(TokenizerTrainer, "learn", until)


def test_every_epoch_shows_every_training_picture_once(prepared: PreparedFolder) -> None:
    order = TrainingOrder(prepared, batch_size=7, seed=3)
    train_keys = {row["key"] for row in prepared.rows("train")}
    keys = [[key for key, _ in prepared.read_part(p)] for p in range(len(prepared.image_parts))]
    steps = list(order.places(0, 24))
    assert all(len(step) == 7 for step in steps)
    stream = [keys[part][position] for step in steps for part, position in step]
    epochs = [stream[at : at + 24] for at in range(0, 7 * 24, 24)]
    assert all(Counter(epoch) == Counter(train_keys) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    assert list(order.places(5, 9)) == steps[5:9]
    assert list(TrainingOrder(prepared, batch_size=7, seed=4).places(0, 24)) != steps


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_pictures_of_their_places(prepared: PreparedFolder, workers: int) -> None:
    order = TrainingOrder(prepared, batch_size=30, seed=0)  # larger than an epoch
    batches = list(training_batches(prepared, order, start=2, stop=9, workers=workers))
    for batch, places in zip(batches, order.places(2, 9), strict=True):
        assert (batch.shape, batch.dtype) == ((30, 1, 32, 32), torch.uint8)
        for picture, (part, position) in zip(batch, places, strict=True):
            png = prepared.read_part(part)[position][1]
            assert torch.equal(picture.permute(1, 2, 0), torch.tensor(decode_png(png)))


def cut_off(
    prepared: PreparedFolder, folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train and be stopped after ``steps`` steps."""
    with monkeypatch.context() as patched:
        stop_after(patched, steps)
        with pytest.raises(Stopped):
            train(prepared, folder)


def test_a_run_that_is_stopped_goes_on_to_the_same_bytes(
    prepared: PreparedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    resume = TokenizerTrainer.resume

    def noted(self: TokenizerTrainer, path: Path) -> None:
        resume(self, path)
        started.append(self.step)

    monkeypatch.setattr(TokenizerTrainer, "resume", noted)
    train(prepared, tmp_path / "whole")
    for steps, expected in ((3, []), (5, [5]), (11, [10])):
        cut = tmp_path / f"cut-{steps}"
        cut_off(prepared, cut, steps, monkeypatch)
        assert (cut / CHECKPOINT).is_file() == bool(expected)
        started.clear()
        train(prepared, cut)
        assert started == expected
        assert contents(cut) == contents(tmp_path / "whole")
        assert not (cut / ".partial").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_seed_gives_the_same_bytes_on_a_gpu(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        train(prepared, tmp_path / name, torch.device("cuda"), steps=40)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_checkpoint_binds_its_settings_but_not_how_often_to_save(
    prepared: PreparedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(prepared, tmp_path / "t", 6, monkeypatch)
    with pytest.raises(RequestError, match=r"unfinished work .* training.learning_rate"):
        train(prepared, tmp_path / "t", learning_rate=2e-3)
    train(prepared, tmp_path / "t", checkpoint_every=7, workers=2)


def test_a_damaged_checkpoint_is_named(
    prepared: PreparedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(prepared, tmp_path / "t", 6, monkeypatch)
    (tmp_path / "t" / CHECKPOINT).write_bytes(b"rubbish")
    with pytest.raises(WorkError, match=r"checkpoint.pt is damaged .*: delete the folder"):
        train(prepared, tmp_path / "t")


def test_killed_between_the_weights_and_the_manifest_it_keeps_its_figures(
    prepared: PreparedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: object, **more: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(stage.PartWriter, "finish", dies)
        with pytest.raises(Stopped):
            train(prepared, tmp_path / "t", steps=2, adversarial=AdversarialTerm())
    manifest = train(prepared, tmp_path / "t", steps=2, adversarial=AdversarialTerm())
    assert manifest["metrics"]["num_images"] == 8


def train_slowly(prepared: Path, folder: Path, threads: int) -> None:
    """In a process of its own, a tenth of a second a step."""
    learn = TokenizerTrainer.learn

    def slowly(self: TokenizerTrainer, images: torch.Tensor) -> dict[str, torch.Tensor]:
        time.sleep(0.1)
        return learn(self, images)

    TokenizerTrainer.learn = slowly  # type: ignore[method-assign]
    torch.set_num_threads(threads)
    train(PreparedFolder(prepared), folder)


def test_killed_for_good_it_goes_on_to_the_same_bytes(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    place = (prepared.folder, tmp_path / "cut", torch.get_num_threads())
    process = ForkedProcess(target=train_slowly, args=place)
    process.start()
    mark = tmp_path / "cut" / ".partial" / "done-00000.json"
    while not mark.is_file():
        assert process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "manifest.json").exists()
    train(prepared, tmp_path / "cut")
    train(prepared, tmp_path / "whole")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
