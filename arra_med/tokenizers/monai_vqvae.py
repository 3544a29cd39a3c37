"""A VQ-VAE (van den Oord et al., 2017) through MONAI, trainable on one's own pictures."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from arra_med.errors import RequestError
from arra_med.tokenizers.base import TrainableTokenizer, fitting, pack, unpack


@dataclass(frozen=True, kw_only=True)
class MonaiVqvaeOptions:
    """Architecture and loss.

    Attributes:
        channels: width of each halving step; three of them make f8.
        residual_layers: residual blocks a step.
        num_codes: size of the codebook.
        code_dimension: length of a code's vector.
        decay: of the codebook's exponential moving average.
        commitment: weight of the commitment loss.
        revive_every: batches between replacing codes that are no longer used.
    """

    channels: tuple[int, ...] = (64, 128, 256)
    residual_layers: int = 2
    num_codes: int = 1024
    code_dimension: int = 64
    decay: float = 0.95
    commitment: float = 0.25
    revive_every: int = 20

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1 or self.num_codes < 2:
            raise ValueError("channels needs at least one positive width and num_codes at least 2")

    @property
    def downsampling(self) -> int:
        """Side of the patch of pixels that one code stands for."""
        return int(2 ** len(self.channels))


class MonaiVqvae(TrainableTokenizer):
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
        codes: Tensor = self.model.index_quantize(self._normalise(images))
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """``(B, rows, columns)`` int64 codes to ``(B, C, H, W)`` uint8 pictures."""
        pixels: Tensor = self.model.decode_samples(codes)
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def training_loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """L1 reconstruction error plus the commitment loss of one batch."""
        pixels = self._normalise(images)
        latents = self.model.encode(pixels)
        if self.training and self.batches % self.options.revive_every == 0:
            self._revive(latents.detach(), generator)
        self.batches += 1
        quantized, commitment = self.model.quantize(latents)
        reconstruction = self.model.decode(quantized)
        loss: Tensor = functional.l1_loss(reconstruction, pixels) + commitment
        return loss

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
