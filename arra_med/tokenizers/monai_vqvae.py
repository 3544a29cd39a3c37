"""A VQ-VAE (van den Oord et al., 2017) through MONAI, trainable on one's own pictures."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from arra_med.errors import RequestError
from arra_med.settings.checks import not_negative, positive
from arra_med.tokenizers.base import chunks, fitting, pack, unpack
from arra_med.tokenizers.learning import ReconstructingTokenizer, Reconstruction


@dataclass(frozen=True, kw_only=True)
class MonaiVqvaeOptions:
    """Architecture and loss. Terms of weight 0 are not computed.

    Attributes:
        channels: width of each halving step; three of them make f8, four f16.
        residual_layers: residual blocks a step.
        num_codes: size of the codebook.
        code_dimension: length of a code's vector.
        decay: of the codebook's exponential moving average.
        commitment: weight of the commitment loss.
        revive_every: batches between replacing codes that are no longer used.
        l1: weight of the mean absolute error of pixels, pictures being in [-1, 1].
        l2: weight of the mean squared error of pixels.
        usage: weight of the codebook-usage term, see :func:`usage_loss`.
    """

    channels: tuple[int, ...] = (64, 128, 256)
    residual_layers: int = 2
    num_codes: int = 1024
    code_dimension: int = 64
    decay: float = 0.95
    commitment: float = 0.25
    revive_every: int = 20
    l1: float = 1.0
    l2: float = 0.0
    usage: float = 0.0

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError("channels needs at least one positive width")
        if not 2 <= self.num_codes <= 2**16:
            raise ValueError(f"num_codes must be 2 to {2**16:,}, as codes are kept in 16 bits")
        positive(self, "residual_layers", "code_dimension", "revive_every")
        not_negative(self, "commitment", "l1", "l2", "usage")
        if not 0 < self.decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, got {self.decay}")
        if not self.l1 + self.l2:
            raise ValueError("l1 and l2 are both 0: the decoder would learn nothing of the pixels")

    @property
    def downsampling(self) -> int:
        """Side of the patch of pixels that one code stands for."""
        return int(2 ** len(self.channels))


class MonaiVqvae(ReconstructingTokenizer):
    """MONAI's VQVAE with an EMA codebook that starts from data and revives dead codes."""

    Options = MonaiVqvaeOptions

    def __init__(self, options: MonaiVqvaeOptions, *, image_size: int, channels: int) -> None:
        from monai.networks.nets import VQVAE  # takes seconds to import

        super().__init__()
        factor = options.downsampling
        if image_size % factor:
            raise RequestError(
                f"pictures of {image_size} px do not divide into codes of {factor} px: "
                f"{len(options.channels)} channel widths halve the picture that many times"
            )
        self.options = options
        self.num_codes = options.num_codes
        self.image_size = image_size
        self.channels = channels
        self.grid = (image_size // factor, image_size // factor)
        steps = len(options.channels)
        self.model = VQVAE(
            spatial_dims=2,
            in_channels=channels,
            out_channels=channels,
            channels=options.channels,
            num_res_layers=options.residual_layers,
            num_res_channels=options.channels,
            downsample_parameters=((2, 4, 1, 1),) * steps,
            upsample_parameters=((2, 4, 1, 1, 0),) * steps,
            num_embeddings=options.num_codes,
            embedding_dim=options.code_dimension,
            commitment_cost=options.commitment,
            decay=options.decay,
        )
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.batches: Tensor

    @classmethod
    def create(
        cls, options: MonaiVqvaeOptions, *, image_size: int, channels: int, seed: int
    ) -> Self:
        """A new one with random weights drawn from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(options, image_size=image_size, channels=channels)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 pictures to ``(B, rows, columns)`` int64 codes."""
        pieces = chunks(self._normalise(images), (self.image_size, self.image_size))
        return torch.cat([self.model.index_quantize(piece) for piece in pieces])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """``(B, rows, columns)`` int64 codes to ``(B, C, H, W)`` uint8 pictures."""
        size = (codes.shape[1] * self.patch, codes.shape[2] * self.patch)
        return torch.cat([self._pixels(piece) for piece in chunks(codes, size)])

    def _pixels(self, codes: Tensor) -> Tensor:
        pixels: Tensor = self.model.decode_samples(codes)
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def learn(self, images: Tensor, generator: torch.Generator) -> Reconstruction:
        """Pixel errors, commitment and usage of one batch; in training, the codebook moves on."""
        options = self.options
        pixels = self._normalise(images)
        latents = self.model.encode(pixels).float()
        if self.training and self.batches % options.revive_every == 0:
            self._revive(latents.detach(), generator)
        self.batches += 1
        terms: dict[str, Tensor] = {}
        loss = latents.new_zeros(())
        if options.usage:
            terms["usage"] = usage_loss(latents, self.codebook)
            loss = loss + options.usage * terms["usage"]
        with torch.autocast(images.device.type, enabled=False):  # distances need their digits
            quantized, terms["commitment"] = self.model.quantize(latents)
        decoded = self.model.decode(quantized).float()
        loss = loss + terms["commitment"]
        if options.l1:
            terms["l1"] = functional.l1_loss(decoded, pixels)
            loss = loss + options.l1 * terms["l1"]
        if options.l2:
            terms["l2"] = functional.mse_loss(decoded, pixels)
            loss = loss + options.l2 * terms["l2"]
        return Reconstruction(pixels, decoded, loss, terms)

    @property
    def codebook(self) -> Tensor:
        """Vectors of the codes, ``(num_codes, code_dimension)`` float32."""
        weight: Tensor = self.model.quantizer.quantizer.embedding.weight
        return weight

    def files(self) -> dict[str, bytes]:
        """``config.json`` and ``model.safetensors``."""
        config = {
            "name": "monai-vqvae",
            "options": asdict(self.options),
            "image_size": self.image_size,
            "channels": self.channels,
        }
        return pack(config, self.state_dict())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            RequestError: if configuration and weights do not belong together.
        """
        config, state = unpack(folder)
        options = config["options"] | {"channels": tuple(config["options"]["channels"])}
        tokenizer = cls(
            MonaiVqvaeOptions(**options),
            image_size=config["image_size"],
            channels=config["channels"],
        )
        with fitting(folder):
            tokenizer.load_state_dict(state)
        return tokenizer

    def _normalise(self, images: Tensor) -> Tensor:
        """uint8 [0, 255] to float32 [-1, 1], after checking that it is a picture of our size."""
        expected = (self.channels, self.image_size, self.image_size)
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"expected uint8 pictures of shape (B, {expected}), got {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        return images.float() / 127.5 - 1

    def _revive(self, latents: Tensor, generator: torch.Generator) -> None:
        """Move codes that hardly any latent uses onto latents of this batch, ``(B, D, h, w)``.

        At the first batch no code is used yet, so this is also the codebook's start from data.
        """
        quantizer = self.model.quantizer.quantizer
        share = quantizer.ema_cluster_size / quantizer.ema_cluster_size.sum().clamp(min=1e-12)
        dead = (share < 0.1 / self.num_codes).nonzero()[:, 0]
        vectors = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
        draw = torch.randint(len(vectors), (len(dead),), generator=generator).to(latents.device)
        fresh = vectors[draw]
        size = quantizer.ema_cluster_size.sum().clamp(min=len(vectors)) / self.num_codes
        quantizer.embedding.weight[dead] = fresh
        quantizer.ema_w[dead] = fresh * size
        quantizer.ema_cluster_size[dead] = size


def usage_loss(latents: Tensor, codebook: Tensor) -> Tensor:
    """How far the batch's average use of the codes is from even: log K - H(mean of p).

    p(code | latent) is a softmax of the negative squared distance, divided by the batch's mean
    squared distance to the nearest code. It is 0 for even use and log K if one code is all that is
    used. This is the entropy of the average assignment, as in Yu et al. (MAGVIT-v2, 2023), which
    also sharpen each assignment: here the commitment loss does.

    Args:
        latents: ``(B, D, h, w)`` float32, which get the gradient.
        codebook: ``(K, D)`` float32, which gets none: it follows the latents by moving averages.

    Returns:
        A number in nats.
    """
    with torch.autocast(latents.device.type, enabled=False):
        vectors = latents.float().permute(0, 2, 3, 1).flatten(0, 2)
        squared = torch.cdist(vectors, codebook.detach().float()).square()
        scale = squared.detach().min(dim=1).values.mean().clamp(min=1e-12)
        average = functional.softmax(-squared / scale, dim=1).mean(dim=0)
        entropy: Tensor = -torch.special.xlogy(average, average).sum()
        return math.log(len(codebook)) - entropy
