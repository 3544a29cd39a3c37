"""The linear teacher learns, is reproducible, and refuses what cannot work."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from arra_med.errors import RequestError
from arra_med.store import PreparedFolder
from arra_med.teachers.linear import LinearOptions, LinearTeacher, PatchClassifier

CPU = torch.device("cpu")


def fitted(folder: Path, prepared: PreparedFolder, **options: int) -> LinearOptions:
    chosen = LinearOptions(weights=folder, **{"dimension": 16, "patch": 16} | options)
    LinearTeacher.fit(chosen, prepared, CPU)
    return chosen


@pytest.mark.parametrize("colour", [False, True])
def test_learns(tmp_path: Path, make_prepared: Callable[..., PreparedFolder], colour: bool) -> None:
    prepared = make_prepared(tmp_path / "prepared", colour=colour)
    fitted(tmp_path / "teacher", prepared)
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    assert config["labels"] == ["Disc", "Bar"]
    assert config["labels_left_out"] == ["Never"]
    assert config["num_samples"] == 24
    assert all(value > 0.8 for value in config["validation_auroc"].values())
    assert config["train_loss"] < 0.3


def test_same_seed_same_bytes(tmp_path: Path, prepared: PreparedFolder) -> None:
    before = torch.random.get_rng_state()
    a = fitted(tmp_path / "a", prepared)
    torch.manual_seed(123)
    b = fitted(tmp_path / "b", prepared)
    other = fitted(tmp_path / "c", prepared, seed=1)
    weights = [(o.weights / "model.safetensors").read_bytes() for o in (a, b, other)]
    assert weights[0] == weights[1] != weights[2]
    assert LinearTeacher.identity(a) == LinearTeacher.identity(b) != LinearTeacher.identity(other)
    torch.random.set_rng_state(before)


def test_fitting_leaves_the_global_generator_alone(
    tmp_path: Path, prepared: PreparedFolder
) -> None:
    before = torch.random.get_rng_state()
    LinearTeacher(fitted(tmp_path / "a", prepared, epochs=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_validation_and_test_pictures_are_not_trained_on(
    tmp_path: Path, make_prepared: Callable[..., PreparedFolder]
) -> None:
    """24 training pictures alone give the same weights as 40 of all splits."""
    small = make_prepared(tmp_path / "small", num_samples=24, part_size=12)
    large = make_prepared(tmp_path / "large", num_samples=40, part_size=12)
    a, b = fitted(tmp_path / "a", small, epochs=3), fitted(tmp_path / "b", large, epochs=3)
    names = "model.safetensors"
    assert (a.weights / names).read_bytes() == (b.weights / names).read_bytes()
    assert json.loads((a.weights / "config.json").read_text())["validation_auroc"] == {
        "Bar": None,
        "Disc": None,
    }


def test_unknown_and_uncertain_labels_are_masked(tmp_path: Path, prepared: PreparedFolder) -> None:
    """Sample 3 has no Disc and sample 4 an uncertain Bar; the loss counts 46 of 48 labels."""
    from arra_med.teachers import linear

    rows = {row["key"]: row for row in prepared.rows("train")}
    _, targets = linear._tensors(prepared, rows, ["Disc", "Bar"], 64)
    assert targets.shape == (24, 2)
    assert targets.isnan().nonzero().tolist() == [[3, 0], [4, 1]]


def test_vectors_by_hand() -> None:
    options = LinearOptions(weights=Path("unused"), dimension=3, input_size=4, patch=2)
    model = PatchClassifier(options, num_labels=2)
    pixels = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    tokens, vector = model(pixels)
    weight, bias = model.embed.weight, model.embed.bias
    for row in range(2):
        for column in range(2):
            patch = pixels[1, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
            torch.testing.assert_close(tokens[1, 2 * row + column], F.relu(weight @ patch + bias))
    torch.testing.assert_close(vector[1], model.pool.weight @ tokens[1].flatten() + model.pool.bias)
    torch.testing.assert_close(
        model.logits(pixels)[1], model.readout.weight @ vector[1] + model.readout.bias
    )


def test_other_options_than_it_was_fitted_with(tmp_path: Path, prepared: PreparedFolder) -> None:
    fitted(tmp_path / "a", prepared, epochs=1)
    other = LinearOptions(weights=tmp_path / "a", dimension=16, patch=16, epochs=2)
    with pytest.raises(RequestError, match=r"fitted with other options: epochs \(1 there, 2"):
        LinearTeacher(other)


def test_not_fitted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has not been fitted.*arra-med features"):
        LinearTeacher.identity(LinearOptions(weights=tmp_path))


def test_nothing_to_learn(tmp_path: Path, make_prepared: Callable[..., PreparedFolder]) -> None:
    prepared = make_prepared(tmp_path / "prepared", num_samples=1)
    with pytest.raises(RequestError, match="nothing to learn"):
        fitted(tmp_path / "a", prepared)
    assert not (tmp_path / "a").exists()


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="not a multiple of patch"):
        LinearOptions(weights=Path("x"), input_size=64, patch=7)
    with pytest.raises(ValueError, match="epochs must be positive"):
        LinearOptions(weights=Path("x"), epochs=0)
