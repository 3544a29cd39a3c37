import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from arra_med.errors import RequestError
from arra_med.eval.cnn import CnnNetwork, CnnOptions, augment, masked_bce
from arra_med.eval.inference import predict, to_tensor
from arra_med.eval.judge_cnn import CnnExtractor, CnnJudge

CPU = torch.device("cpu")
QUICK = {"input_size": 32, "epochs": 12, "dimension": 8, "min_positives": 4}


@pytest.fixture
def options(tmp_path):
    return CnnOptions(weights=tmp_path / "judge", **QUICK)


@pytest.fixture
def fitted(options, prepared):
    CnnJudge.fit(options, prepared, CPU)
    return options


def test_masked_bce_equals_a_loop_over_known_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator)
    labels = torch.tensor([[1, 0, -1], [0, -1, -1], [1, 1, 0], [-1, -1, -1], [0, 0, 0], [1, -1, 1]])
    losses = []
    for row, values in zip(logits.tolist(), labels.tolist(), strict=True):
        for logit, value in zip(row, values, strict=True):
            if value != -1:
                p = 1 / (1 + np.exp(-logit))
                losses.append(-np.log(p if value else 1 - p))
    assert float(masked_bce(logits, labels)) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(masked_bce(logits, torch.full_like(labels, -1))) == 0
    logits.requires_grad_()
    masked_bce(logits, labels).backward()
    assert (logits.grad[labels == -1] == 0).all()


def test_augmentation_never_flips():
    """A bright left half stays on the left, whatever is drawn."""
    pixels = torch.zeros(64, 1, 32, 32)
    pixels[..., :10] = 1
    out = augment(pixels, torch.Generator().manual_seed(0))
    assert out.shape == pixels.shape
    assert (out[..., :8].mean(dim=(1, 2, 3)) > out[..., 12:].mean(dim=(1, 2, 3)) + 0.5).all()
    assert out[:, 0, 0, 0].std() > 0.05


def test_it_learns_what_the_pictures_show(fitted, prepared):
    judge = CnnJudge(fitted)
    assert judge.findings == ("Cardiomegaly", "Pleural Effusion")
    assert "0 training pictures with it and 0 without" in judge.not_judged["Edema"]
    rows = [*prepared.rows("validate"), *prepared.rows("test")]
    pngs = prepared.images([row["key"] for row in rows])
    outputs = predict(
        judge, [pngs[row["key"]] for row in rows], batch_size=5, device=CPU, what="judge"
    )
    assert outputs.shape == (16, 2)
    assert ((outputs >= 0) & (outputs <= 1)).all()
    for column, finding in enumerate(judge.findings):
        labels = [row["labels"][finding] for row in rows]
        assert roc_auc_score(labels, outputs[:, column]) > 0.9


def test_two_fits_give_the_same_weights(fitted, prepared, tmp_path):
    torch.rand(3)  # the global generator is neither used nor set
    state = torch.get_rng_state()
    again = CnnOptions(weights=tmp_path / "again", **QUICK)
    CnnJudge.fit(again, prepared, CPU)
    assert torch.equal(state, torch.get_rng_state())
    for name in ("model.safetensors", "config.json"):
        assert (again.weights / name).read_bytes() == (fitted.weights / name).read_bytes()
    assert CnnJudge.identity(again) == CnnJudge.identity(fitted)
    assert CnnJudge.identity(fitted)["fitted_on"] == prepared.content_hash
    assert str(fitted.weights) not in json.dumps(CnnJudge.identity(fitted))


def test_extractor_shares_the_weights_and_is_the_layer_before_the_findings(fitted, prepared):
    extractor, judge = CnnExtractor(fitted), CnnJudge(fitted)
    picture = to_tensor([next(prepared.iter_images())[1]])
    features = extractor(picture)
    assert features.shape == (1, 8)
    assert extractor.dimension == 8
    network = judge.network
    embedding = features * network.feature_std + network.feature_mean
    torch.testing.assert_close(torch.sigmoid(network.head(embedding)), judge(picture))
    pngs = prepared.images([row["key"] for row in prepared.rows("train")])
    trained = predict(extractor, list(pngs.values()), batch_size=8, device=CPU, what="features")
    np.testing.assert_allclose(trained.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(trained.std(axis=0, ddof=1), 1, atol=1e-3)
    assert CnnExtractor.identity(fitted) == CnnJudge.identity(fitted)
    assert "training split" in extractor.info.trained_on


def test_another_size_is_resized_and_batches_do_not_matter(fitted):
    judge = CnnJudge(fitted)
    pictures = torch.randint(0, 256, (3, 1, 48, 48), dtype=torch.uint8)
    whole = judge(pictures)
    parts = torch.cat([judge(picture[None]) for picture in pictures])
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.rand(2, 1, 32, 32), "expected uint8"),
        (torch.randint(0, 2, (2, 1, 32, 32), dtype=torch.uint8), "cast to uint8"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "expected 1 channels"),
        (torch.zeros(1, 32, 32, dtype=torch.uint8), "expected \\(B, 1 or 3"),
    ],
)
def test_wrong_pixels_raise_on_every_batch(fitted, picture, message):
    for module in (CnnJudge(fitted), CnnExtractor(fitted)):
        for _ in range(2):
            with pytest.raises(ValueError, match=message):
                module(picture)
        assert (
            module(torch.zeros(1, 1, 32, 32, dtype=torch.uint8)).isfinite().all()
        )  # black is fine


def test_colour_pictures_keep_their_channels():
    network = CnnNetwork(channels=3, input_size=32, dimension=8, num_findings=5).eval()
    pictures = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    assert network.prepare(pictures).shape == (2, 3, 32, 32)
    assert network(network.prepare(pictures)).shape == (2, 5)
    with pytest.raises(ValueError, match="expected 3 channels, got 1"):
        network.prepare(pictures[:, :1])


def test_missing_and_damaged_and_other_weights(options, prepared, tmp_path):
    assert not CnnJudge.is_fitted(options)
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors and config\.json missing"):
        CnnJudge(options)
    CnnJudge.fit(options, prepared, CPU)
    assert CnnJudge.is_fitted(options)
    other = CnnOptions(weights=options.weights, **(QUICK | {"seed": 1}))
    with pytest.raises(RequestError, match=r"was fitted otherwise; it differs in options\.\w+ \("):
        CnnJudge.identity(other)
    with (options.weights / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RequestError, match="is not the file"):
        CnnJudge.identity(options)
    (options.weights / "config.json").unlink()
    assert not CnnJudge.is_fitted(options)


def test_nothing_to_judge_is_refused(prepared, tmp_path):
    options = CnnOptions(weights=tmp_path / "judge", input_size=32, min_positives=13)
    own = (
        r"13 present .*evaluation\.judges: \[{name: cnn, min_positives: .*which is not evaluation\."
    )
    with pytest.raises(RequestError, match=own):
        CnnJudge.fit(options, prepared, CPU)
    assert not options.weights.exists()


def test_options_are_checked(tmp_path):
    with pytest.raises(ValueError, match="at least 32"):
        CnnOptions(weights=tmp_path, input_size=16)
    with pytest.raises(ValueError, match="epochs"):
        CnnOptions(weights=tmp_path, epochs=0)
