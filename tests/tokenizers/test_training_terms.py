"""Each term of a tokenizer's loss against a computation by hand; what gets a gradient of it."""

import math

import pytest
import torch
from torch import Tensor, nn

from arra_med.config import build
from arra_med.errors import RequestError, WorkError
from arra_med.settings import TokenizerTraining
from arra_med.settings.data import AdversarialTerm
from arra_med.tokenizers.adversary import Adversary
from arra_med.tokenizers.base import TrainableTokenizer
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions, usage_loss
from arra_med.tokenizers.optimise import TokenizerTrainer, _finite, learning_rate_factor

CPU = torch.device("cpu")
SMALL = {"channels": (8, 16), "residual_layers": 1, "num_codes": 32, "code_dimension": 8}


def tokenizer(*, size: int = 32, channels: int = 1, **options: object) -> MonaiVqvae:
    chosen = MonaiVqvaeOptions(**(SMALL | options))  # type: ignore[arg-type]
    return MonaiVqvae.create(chosen, image_size=size, channels=channels, seed=0)


def pictures(channels: int = 1, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (4, channels, size, size), dtype=torch.uint8, generator=generator)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in module.named_parameters()}


@pytest.mark.parametrize(("l1", "l2"), [(1.0, 0.0), (0.0, 3.0), (0.5, 2.0)])
def test_the_tokenizers_own_loss_is_its_weighted_terms(l1: float, l2: float) -> None:
    chosen = tokenizer(l1=l1, l2=l2, commitment=0.3).eval()
    images = pictures()
    made = chosen.learn(images, torch.Generator())
    pixels = images.double() / 127.5 - 1
    assert torch.allclose(made.pixels.double(), pixels, atol=1e-6)
    latents = chosen.model.encode(made.pixels)
    vectors = latents.permute(0, 2, 3, 1).reshape(-1, 8)
    nearest = chosen.codebook[torch.cdist(vectors, chosen.codebook).argmin(dim=1)]
    commitment = 0.3 * (vectors - nearest).square().mean()
    wrong = made.decoded.double() - pixels
    expected = commitment + l1 * wrong.abs().mean() + l2 * wrong.square().mean()
    assert made.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(made.terms) == {"commitment"} | {n for n, w in (("l1", l1), ("l2", l2)) if w}


def test_the_usage_term_is_by_hand_and_moves_the_encoder_alone() -> None:
    latents = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]).T.reshape(1, 2, 1, 3)
    latents.requires_grad_()
    codebook = torch.tensor([[0.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = usage_loss(latents, codebook)
    squared = [[1, 2], [4, 1], [18, 13]]
    scale = (1 + 1 + 13) / 3
    average = [0.0, 0.0]
    for row in squared:
        parts = [math.exp(-value / scale) for value in row]
        average = [a + part / sum(parts) / 3 for a, part in zip(average, parts, strict=True)]
    expected = math.log(2) + sum(a * math.log(a) for a in average)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert codebook.grad is None


def test_even_use_costs_nothing_and_one_code_costs_log_k() -> None:
    codebook = 100.0 * torch.eye(4)
    even = (codebook + 1).T.reshape(1, 4, 2, 2)
    assert usage_loss(even, codebook).item() == pytest.approx(0, abs=1e-5)
    one = (codebook[:1] + 1).T.reshape(1, 4, 1, 1)
    assert usage_loss(one, codebook).item() == pytest.approx(math.log(4), rel=1e-5)


def test_the_codebook_follows_the_latents_and_never_a_gradient() -> None:
    chosen = tokenizer(usage=0.1)
    made = chosen.learn(pictures(), torch.Generator().manual_seed(0))
    made.loss.backward()  # type: ignore[no-untyped-call]
    assert chosen.codebook.grad is None
    gradients = [w.grad for w in chosen.model.encoder.parameters()]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)  # straight through
    latents = chosen.model.encode(made.pixels)
    before, sizes = chosen.codebook.clone(), chosen.model.quantizer.quantizer.ema_cluster_size
    old, old_sums = sizes.clone(), chosen.model.quantizer.quantizer.ema_w.clone()
    chosen.learn(pictures(), torch.Generator())
    vectors = latents.detach().permute(0, 2, 3, 1).reshape(-1, 8)
    nearest = torch.cdist(vectors, before).argmin(dim=1)
    for code in nearest.unique()[:4]:
        mine = vectors[nearest == code]
        size = 0.95 * old[code] + 0.05 * len(mine)
        expected = (0.95 * old_sums[code] + 0.05 * mine.sum(dim=0)) / size
        assert torch.allclose(chosen.codebook[code], expected, atol=1e-4)


def test_the_adversary_judges_as_least_squares_and_takes_no_gradient_of_it() -> None:
    term = AdversarialTerm(weight=0.1, channels=4, layers=2)
    adversary = Adversary(term, image_size=32, channels=1, seed=0, device=CPU)
    decoded = torch.randn(2, 1, 32, 32, requires_grad=True)
    loss = adversary.judge(decoded)
    answer = adversary.discriminator(decoded)[-1]
    slope = torch.where(answer > 0, 1.0, 0.05)  # MONAI's leaky activation
    assert loss.item() == pytest.approx((slope * answer - 1).square().mean().item(), rel=1e-5)
    loss.backward()
    assert decoded.grad is not None
    assert decoded.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in adversary.discriminator.parameters())


def test_the_adversary_learns_to_tell_and_gives_the_tokenizer_no_gradient() -> None:
    term = AdversarialTerm(weight=0.1, channels=4, layers=2, learning_rate=1e-2)
    adversary = Adversary(term, image_size=32, channels=1, seed=0, device=CPU)
    pixels, decoded = torch.randn(2, 4, 1, 32, 32)
    decoded.requires_grad_()
    losses = [adversary.learn(pixels, decoded, factor=1.0).item() for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert decoded.grad is None


@pytest.mark.parametrize("criterion", ["least_squares", "hinge", "bce"])
def test_adversarial_training_changes_both_networks_from_its_start(criterion: str) -> None:
    training = build(
        TokenizerTraining,
        {
            "steps": 4,
            "batch_size": 4,
            "adversarial": {
                "weight": 0.5,
                "start": 2,
                "criterion": criterion,
                "channels": 4,
                "layers": 2,
            },
        },
        where="test",
    )
    trainer = TokenizerTrainer(tokenizer(), training, seed=0)
    alone = TokenizerTrainer(tokenizer(), TokenizerTraining(steps=4, batch_size=4), seed=0)
    assert trainer.adversary is not None
    start = snapshot(trainer.adversary.discriminator)
    for step in range(3):
        terms = trainer.learn(pictures())
        alone.learn(pictures())
        same = {
            name: torch.equal(weight, dict(alone.tokenizer.named_parameters())[name])
            for name, weight in trainer.tokenizer.named_parameters()
        }
        moved = {
            name: not torch.equal(weight, start[name])
            for name, weight in trainer.adversary.discriminator.named_parameters()
        }
        if step < 2:
            assert all(same.values())
            assert not any(moved.values())
            assert "adversarial" not in terms
    # the decoder feels the discriminator; the discriminator learnt
    assert not all(same.values())
    assert all(moved.values())
    assert {"adversarial", "discriminator"} <= set(terms)


def test_terms_without_weight_are_not_even_built() -> None:
    trainer = TokenizerTrainer(tokenizer(), TokenizerTraining(steps=2), seed=0)
    assert trainer.adversary is None
    assert trainer.perceptual is None


def test_f16_and_colour() -> None:
    options = MonaiVqvaeOptions(
        channels=(4, 8, 8, 16), residual_layers=1, num_codes=16, code_dimension=4, l2=1.0
    )
    assert options.downsampling == 16
    chosen = MonaiVqvae.create(options, image_size=64, channels=3, seed=0)
    assert chosen.grid == (4, 4)
    term = AdversarialTerm(weight=0.1, channels=4, layers=2)
    trainer = TokenizerTrainer(
        chosen, TokenizerTraining(steps=3, batch_size=4, adversarial=term), seed=0
    )
    first = trainer.learn(pictures(3, 64))
    assert first["loss"].isfinite()
    assert chosen.eval().decode(chosen.encode(pictures(3, 64))).shape == (4, 3, 64, 64)


def test_bf16_is_near_fp32_and_keeps_float32_where_it_matters() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        training = build(TokenizerTraining, {"steps": 2, "precision": precision}, where="test")
        trainer = TokenizerTrainer(tokenizer(usage=0.1), training, seed=0)
        losses.append(trainer.learn(pictures())["loss"].item())
        assert trainer.tokenizer.codebook.dtype == torch.float32  # type: ignore[union-attr]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_the_learning_rate_rises_and_falls() -> None:
    training = TokenizerTraining(steps=10, warmup_steps=4)
    factors = [learning_rate_factor(step, training) for step in range(10)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)])


class Plain(TrainableTokenizer):
    """A plug-in that gives a loss and nothing else."""

    image_size, channels, num_codes, grid = 32, 1, 2, (1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    encode = decode = files = load = create = None  # type: ignore[assignment]

    def training_loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.weight * images.float().mean()


def test_a_tokenizer_that_shows_no_reconstruction_trains_without_these_terms() -> None:
    trainer = TokenizerTrainer(Plain(), TokenizerTraining(steps=2), seed=0)
    trainer.learn(pictures())
    assert trainer.tokenizer.weight < 1
    training = TokenizerTraining(steps=2, adversarial=AdversarialTerm(weight=1.0))
    with pytest.raises(RequestError, match="Plain does not: set their weights to 0"):
        TokenizerTrainer(Plain(), training, seed=0)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"steps": 5, "adversarial": {"weight": 1, "start": 5}}, "would never learn"),
        ({"perceptual": {"weight": 1}}, "no weights are named"),
        ({"perceptual": {"weights": "/w"}}, "weights does nothing while weight is 0"),
        ({"adversarial": {"start": 3, "channels": 8}}, "start, channels does nothing"),
        ({"steps": 5, "warmup_steps": 5}, "must be below steps"),
        ({"adversarial": {"weight": -1}}, "must be 0 or more"),
        ({"precision": "fp16"}, "not one of"),
    ],
)
def test_contradictions_are_refused(tree: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build(TokenizerTraining, tree, where="test")


@pytest.mark.parametrize("options", [{"l1": 0.0}, {"decay": 1.0}, {"usage": -1.0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"both 0|decay|usage"):
        MonaiVqvaeOptions(**options)  # type: ignore[arg-type]


def test_pictures_too_small_for_the_discriminator_are_refused() -> None:
    with pytest.raises(RequestError, match="layers is 4, which leaves nothing of pictures of 32"):
        Adversary(
            AdversarialTerm(weight=1.0, layers=4), image_size=32, channels=1, seed=0, device=CPU
        )


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    with pytest.raises(WorkError, match="at step 7 of the image tokenizer l1 is nan: lower"):
        _finite({"loss": torch.tensor(1.0), "l1": torch.tensor(math.nan)}, 7)
