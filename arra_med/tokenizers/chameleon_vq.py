"""The image tokenizer of Chameleon, Lumina-mGPT and ARRA-Adapt: Meta's VQ-GAN through diffusers.

It is not trained here: ``train-tokenizer`` imports it. Legend: B pictures, C channels, H × W
pixels, h × w codes, D dimension of a code.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from arra_med.errors import RequestError
from arra_med.tokenizers.base import (
    ImageTokenizer,
    PublishedTokenizer,
    chunks,
    fitting,
    pack,
    unpack,
)
from arra_med.tokenizers.chameleon_files import (
    META_ASSET,
    VqFile,
    asset_names,
    find_vq,
    read_vq,
    vq_files,
)
from arra_med.tokenizers.chameleon_keys import CODEBOOK, VqArchitecture, convert

logger = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class ChameleonVqOptions:
    """Which weights, and the precision of the network.

    Attributes:
        weights: Meta's ``vqgan.ckpt`` or a folder that holds it; or a Chameleon checkpoint as
            transformers saves it, whose VQ model has no decoder; ``local-dir:`` may stand before a
            path. ``hf-hub:owner/name`` is looked for in the asset folder. By default Meta's
            tokenizer in the asset folder.
        decoder_weights: ``vqgan.ckpt`` to take the decoder from where ``weights`` has none.
        dtype: of encoder and decoder; codes are always looked up in float32. ``bfloat16`` is 3.6
            times as fast on an H200 and changes some of the codes (6 % with random weights): the
            share is measured on held-out pictures at import, ``code_change_share`` in
            ``metrics.json``.
    """

    weights: Path | None = None
    decoder_weights: Path | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"


class ChameleonVq(PublishedTokenizer):
    """Pictures to codes 0 … 8191, one for 16 × 16 px, and back; grey ones pass through as RGB.

    Args:
        architecture: of the network; its weights are not set.
        dtype: of encoder and decoder.
        decoder: whether there is one.
        image_size: side of the square pictures of a prepared folder; :meth:`encode` and
            :meth:`decode` take other sizes too.
        channels: of pictures, 1 or 3.

    Raises:
        RequestError: if the size does not divide into codes.
    """

    Options = ChameleonVqOptions

    def __init__(
        self,
        architecture: VqArchitecture,
        *,
        dtype: Literal["float32", "bfloat16"],
        decoder: bool,
        image_size: int,
        channels: int,
    ) -> None:
        super().__init__()
        factor = architecture.downsampling
        if image_size % factor or channels not in (1, 3):
            raise RequestError(
                f"pictures of {image_size} px and {channels} channels: Chameleon's VQ-GAN takes "
                f"multiples of {factor} px, grey (1) or RGB (3)"
            )
        self.architecture = architecture
        self.dtype = dtype
        self.can_decode = decoder
        self.num_codes = architecture.num_codes
        self.image_size = image_size
        self.channels = channels
        self.grid = (image_size // factor, image_size // factor)
        self.model = architecture.build(decoder=decoder)

    @classmethod
    def open(cls, options: ChameleonVqOptions, *, image_size: int, channels: int) -> Self:
        """Read Meta's or transformers' files; see :class:`ChameleonVqOptions`.

        Raises:
            FileNotFoundError: if they are not there.
            RequestError: if they hold no VQ-GAN of this kind, encoder and decoder belong to
                different codebooks, or the size does not divide into codes.
        """
        path = find_vq(options.weights)
        file = read_vq(path)
        architecture = VqArchitecture.of(file.state, str(path))
        state = file.state
        decoder = file.has_decoder
        if options.decoder_weights is not None:
            state, decoder = _with_decoder(file, read_vq(find_vq(options.decoder_weights))), True
        tokenizer = cls(
            architecture,
            dtype=options.dtype,
            decoder=decoder,
            image_size=image_size,
            channels=channels,
        )
        tokenizer._assign(convert(state, architecture, decoder=decoder, source=str(path)))
        logger.info(
            "VQ-GAN from %s, stored as %s, %s: %s",
            path.name,
            file.dtypes,
            "with its decoder" if decoder else "encoder only",
            "the published architecture" if architecture == VqArchitecture() else architecture,
        )
        return tokenizer.eval().requires_grad_(False)

    @classmethod
    def sources(cls, options: ChameleonVqOptions) -> list[Path]:
        """The file that holds the network, or its shards; then those of another decoder."""
        found = vq_files(find_vq(options.weights))
        if options.decoder_weights is not None:
            found += vq_files(find_vq(options.decoder_weights))
        return found

    @classmethod
    def assets(cls, options: ChameleonVqOptions) -> tuple[str, ...]:
        """Published weights that ``options`` need; see :mod:`arra_med.assets.needs`."""
        default = (META_ASSET,) if options.weights is None else ()
        return default + asset_names(options.weights, options.decoder_weights)

    @property
    def codebook(self) -> Tensor:
        """Vectors of the codes, ``(num_codes, D)`` float32."""
        vectors: Tensor = self.model.quantize.embedding.weight
        return vectors

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 pictures to ``(B, h, w)`` int64 codes, of any size in whole codes.

        Raises:
            ValueError: if they are not such pictures.
        """
        factor = self.architecture.downsampling
        if (
            images.dtype != torch.uint8
            or images.ndim != 4
            or images.shape[1] != self.channels
            or 0 in images.shape[2:]
            or any(side % factor for side in images.shape[2:])
        ):
            raise ValueError(
                f"expected uint8 pictures of shape (B, {self.channels}, H, W), sides multiples of "
                f"{factor}, got {images.dtype} of shape {tuple(images.shape)}"
            )
        height, width = images.shape[2:]
        pieces = chunks(images, (height, width))
        return torch.cat([self._nearest(self._latents(piece)) for piece in pieces])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """``(B, h, w)`` int64 codes, of any grid, to ``(B, C, H, W)`` uint8 pictures.

        Grey is the luma of ITU-R BT.601. Values are rounded; Meta's code truncates them, which
        darkens a picture by half a grey level.

        Raises:
            RequestError: if there is no decoder.
            ValueError: if they are not such codes.
        """
        pixels = self.decode_pixels(codes).clamp(-1, 1)
        if self.channels == 1:
            luma = torch.tensor(_LUMA, device=pixels.device)
            pixels = torch.einsum("bchw,c->bhw", pixels, luma)[:, None]
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    @torch.no_grad()
    def decode_pixels(self, codes: Tensor) -> Tensor:
        """``(B, h, w)`` int64 codes to the decoder's ``(B, 3, H, W)`` float32, about [-1, 1].

        Raises:
            RequestError: if there is no decoder.
            ValueError: if they are not such codes.
        """
        if not self.can_decode:
            raise RequestError(
                "this image tokenizer was imported from a checkpoint that has the encoder only, "
                "as transformers' Chameleon checkpoints have: set the option 'decoder_weights' of "
                "chameleon-vq to Meta's vqgan.ckpt and run 'arra-med train-tokenizer' into a new "
                "folder"
            )
        if codes.dtype != torch.int64 or codes.ndim != 3 or 0 in codes.shape[1:]:
            raise ValueError(
                f"expected int64 codes of shape (B, h, w), got {codes.dtype} of shape "
                f"{tuple(codes.shape)}"
            )
        if codes.numel() and not 0 <= codes.min() <= codes.max() < self.num_codes:
            raise ValueError(
                f"codes must be in 0 … {self.num_codes - 1}, got {codes.min()} … {codes.max()}"
            )
        height, width = (side * self.architecture.downsampling for side in codes.shape[1:])
        pixels = []
        for piece in chunks(codes, (height, width)):  # 3.2 GB on a GPU in float32
            vectors = self.model.quantize.embedding(piece).permute(0, 3, 1, 2)
            with _exact_float32():
                decoded = self.model.decode(vectors.to(_DTYPES[self.dtype]), True).sample
            pixels.append(decoded.float())
        return torch.cat(pixels)

    def import_metrics(
        self, options: ChameleonVqOptions, batches: Iterable[Tensor]
    ) -> dict[str, float]:
        """``code_change_share`` against float32, if this is not float32."""
        if self.dtype == "float32":
            return {}
        exact = self.open(
            replace(options, dtype="float32"), image_size=self.image_size, channels=self.channels
        )
        return {"code_change_share": code_change_share(exact.to(self.device), self, batches)}

    def files(self) -> dict[str, bytes]:
        """``config.json`` and ``model.safetensors``, in diffusers' names and our precision."""
        config = {
            "name": "chameleon-vq",
            "architecture": asdict(self.architecture),
            "dtype": self.dtype,
            "decoder": self.can_decode,
            "image_size": self.image_size,
            "channels": self.channels,
        }
        return pack(config, self.model.state_dict())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            RequestError: if configuration and weights do not belong together.
        """
        config, state = unpack(folder)
        architecture = config["architecture"]
        tokenizer = cls(
            VqArchitecture(**architecture | {"widths": tuple(architecture["widths"])}),
            dtype=config["dtype"],
            decoder=config["decoder"],
            image_size=config["image_size"],
            channels=config["channels"],
        )
        with fitting(folder):
            tokenizer._assign(state)
        return tokenizer

    def _assign(self, state: dict[str, Tensor]) -> None:
        """Take tensors under diffusers' names as weights, the codebook in float32."""
        dtype = _DTYPES[self.dtype]
        self.model.load_state_dict(
            {k: t.to(torch.float32 if k == CODEBOOK else dtype) for k, t in state.items()},
            assign=True,
        )

    def _latents(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 to the encoder's ``(B, D, h, w)`` float32.

        Scaled in float64 and rounded once, as Meta's code does: x / 255 · 2 - 1.
        """
        pixels = (images.double() / 255 * 2 - 1).to(_DTYPES[self.dtype])
        with _exact_float32():
            latents: Tensor = self.model.encode(pixels.expand(-1, 3, -1, -1)).latents
        return latents.float()

    def _nearest(self, latents: Tensor) -> Tensor:
        """``(B, D, h, w)`` float32 to ``(B, h, w)`` int64: the code at the least distance.

        ‖z - e‖² less ‖z‖², which is the same for every code and would only cost precision.
        """
        book = self.model.quantize.embedding.weight
        vectors = latents.permute(0, 2, 3, 1)
        distances: Tensor = book.square().sum(dim=1) - 2 * (vectors @ book.T)
        return distances.argmin(dim=-1)


@torch.no_grad()
def code_change_share(
    reference: ImageTokenizer, other: ImageTokenizer, batches: Iterable[Tensor]
) -> float:
    """Share of codes, in [0, 1], that ``other`` gives another value than ``reference``.

    Args:
        reference: an image tokenizer.
        other: the same one in another precision, say.
        batches: ``(B, C, H, W)`` uint8 pictures.

    Raises:
        ValueError: if there is no picture.
    """
    changed = total = 0
    for images in batches:
        codes = reference.encode(images.to(reference.device)).cpu()
        changed += int((codes != other.encode(images.to(other.device)).cpu()).sum())
        total += codes.numel()
    if not total:
        raise ValueError("no picture to measure changed codes on")
    return changed / total


def _with_decoder(encoder: VqFile, donor: VqFile) -> dict[str, Tensor]:
    """One checkpoint's encoder and codebook with another's decoder, under Meta's names.

    Raises:
        RequestError: if the first has a decoder, the second has none, or codebooks differ by more
            than the precision that the first is stored in.
    """
    if encoder.has_decoder:
        raise RequestError(f"{encoder.path} has its own decoder: leave decoder_weights out")
    if not donor.has_decoder:
        raise RequestError(
            f"decoder_weights: {donor.path} has no decoder either, give Meta's vqgan.ckpt"
        )
    ours, theirs = encoder.state[CODEBOOK], donor.state.get(CODEBOOK, torch.zeros(0))
    if ours.shape != theirs.shape or not torch.equal(ours, theirs.to(ours.dtype)):
        raise RequestError(
            f"the decoder in {donor.path} was trained with another codebook than {encoder.path} "
            f"holds ({tuple(theirs.shape)} and {tuple(ours.shape)}): give the vqgan.ckpt that this "
            "checkpoint was made with"
        )
    from_donor = ("decoder.", "post_quant_conv.")  # what codes pass through on their way back
    return encoder.state | {k: t for k, t in donor.state.items() if k.startswith(from_donor)}


@contextlib.contextmanager
def _exact_float32() -> Iterator[None]:
    """Convolutions in float32 proper: cuDNN's default, TF32, keeps 10 bits of each number."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    ):
        yield
