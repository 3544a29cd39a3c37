"""The VQ-GAN of Chameleon: its architecture read from tensors, and Meta's names for them.

Meta distributes it in the layout of taming-transformers and latent-diffusion
(``encoder.down.0.block.0.norm1.weight``), which transformers keeps for the encoder inside its
Chameleon checkpoints; diffusers' ``VQModel`` is the same network under other names. Paper:
"Make-A-Scene", Gafni et al., arXiv 2203.13131; "Chameleon", arXiv 2405.09818.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from arra_med.errors import RequestError

if TYPE_CHECKING:
    from diffusers import VQModel

PARTS = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
CODEBOOK = "quantize.embedding.weight"
_NORM_GROUPS = 32
_RENAMES = (  # diffusers' names to Meta's, in this order
    (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up_blocks\.(\d+)\.resnets\.", r".up.\1.block."),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
)


@dataclass(frozen=True, kw_only=True)
class VqArchitecture:
    """What distinguishes one VQ-GAN of this family from another; defaults are the published one.

    Attributes:
        widths: channels at each resolution, the full one first; each further one halves the side.
        residual_blocks: at each resolution of the encoder; the decoder has one more.
        latent_channels: of the encoder's output (z).
        code_dimension: length of a code's vector.
        num_codes: size of the codebook.
    """

    widths: tuple[int, ...] = (128, 128, 256, 256, 512)
    residual_blocks: int = 2
    latent_channels: int = 256
    code_dimension: int = 256
    num_codes: int = 8192

    @property
    def downsampling(self) -> int:
        """Side of the patch of pixels that one code stands for."""
        return int(2 ** (len(self.widths) - 1))

    @classmethod
    def of(cls, state: Mapping[str, Tensor], source: str) -> Self:
        """Read from tensors under Meta's names; which of them fit it is :func:`convert`'s to say.

        Raises:
            RequestError: if it is no VQ-GAN of this family.
        """
        levels = _count(state, r"encoder\.down\.(\d+)\.")
        firsts = [f"encoder.down.{level}.block.0.conv1.weight" for level in range(levels)]
        book, out = _shape(state, CODEBOOK, 2, source), "encoder.conv_out.weight"
        architecture = cls(
            widths=tuple(_shape(state, name, 4, source)[0] for name in firsts),
            residual_blocks=_count(state, r"encoder\.down\.0\.block\.(\d+)\."),
            latent_channels=_shape(state, out, 4, source)[0],
            code_dimension=book[1],
            num_codes=book[0],
        )
        if levels < 2 or any(width % _NORM_GROUPS for width in architecture.widths):
            raise RequestError(
                f"{source} has an encoder of widths {list(architecture.widths)}: expected at least "
                f"two, each a multiple of its {_NORM_GROUPS} normalisation groups, as "
                f"{list(cls().widths)} of Chameleon's VQ-GAN"
            )
        return architecture

    def build(self, *, decoder: bool) -> "VQModel":
        """diffusers' model on the ``meta`` device; without its decoder unless asked for."""
        from diffusers import VQModel  # takes seconds to import

        levels = len(self.widths)
        with torch.device("meta"):
            model = VQModel(
                in_channels=3,
                out_channels=3,
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                block_out_channels=self.widths,
                layers_per_block=self.residual_blocks,
                latent_channels=self.latent_channels,
                num_vq_embeddings=self.num_codes,
                vq_embed_dim=self.code_dimension,
                norm_num_groups=_NORM_GROUPS,
            )
        if not decoder:
            del model.decoder
        return model


def convert(
    state: Mapping[str, Tensor], architecture: VqArchitecture, *, decoder: bool, source: str
) -> dict[str, Tensor]:
    """Tensors under Meta's names to float32 ones under diffusers'.

    Args:
        state: at least the encoder, codebook and the two 1×1 convolutions; others than
            :data:`PARTS` are ignored.
        architecture: what they must fit.
        decoder: whether the decoder is wanted; it is ignored otherwise.
        source: where they come from, for messages.

    Raises:
        RequestError: if tensors are missing, too many or of another shape: which.
    """
    model = architecture.build(decoder=decoder)
    names = {name: meta_name(name, len(architecture.widths)) for name in model.state_dict()}
    shapes = {
        names[name]: tuple(tensor.shape) + ((1, 1) if _is_projection(name, tensor) else ())
        for name, tensor in model.state_dict().items()
    }
    wanted = tuple(part for part in PARTS if decoder or part != "decoder.")
    given = {name for name in state if name.startswith(wanted)}
    _refuse(
        source,
        missing=sorted(shapes.keys() - given),
        unexpected=sorted(given - shapes.keys()),
        misshapen=[
            f"{name} is {tuple(state[name].shape)}, expected {shape}"
            for name, shape in shapes.items()
            if name in given and tuple(state[name].shape) != shape
        ],
    )
    expected = model.state_dict()
    return {
        name: state[theirs].float().reshape(expected[name].shape).contiguous()
        for name, theirs in names.items()
    }


def meta_name(name: str, levels: int) -> str:
    """A tensor of diffusers' ``VQModel`` as Meta calls it.

    The decoder's resolutions are counted from the full one by Meta and towards it by diffusers.
    """
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"\.up\.(\d+)\.", lambda match: f".up.{levels - 1 - int(match[1])}.", name)


def _is_projection(name: str, tensor: Tensor) -> bool:
    """Attention's projections are 1×1 convolutions in Meta's file and linear layers here."""
    return ".attentions." in name and tensor.ndim == 2


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    found = [int(match[1]) for name in state if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def _shape(state: Mapping[str, Tensor], name: str, ndim: int, source: str) -> tuple[int, ...]:
    """Shape of a tensor that everything else is derived from."""
    if name not in state:
        _refuse(source, missing=[name])
    shape = tuple(state[name].shape)
    if len(shape) != ndim:
        _refuse(source, misshapen=[f"{name} is {shape}, expected {ndim} dimensions"])
    return shape


def _refuse(
    source: str,
    *,
    missing: Sequence[str] = (),
    unexpected: Sequence[str] = (),
    misshapen: Sequence[str] = (),
) -> None:
    kinds = {
        "lacks": (missing, ""),
        "has": (unexpected, " too many"),
        "holds": (misshapen, " of another shape"),
    }
    faults = [
        f"{verb} {len(found)} tensors{what} ({'; '.join(found[:3])}{'; …' * (len(found) > 3)})"
        for verb, (found, what) in kinds.items()
        if found
    ]
    if faults:
        raise RequestError(
            f"{source} does not fit Chameleon's VQ-GAN: it {', '.join(faults)}. Expected: encoder, "
            "quantize, quant_conv, post_quant_conv and, to decode, decoder, in the layout of "
            "Meta's vqgan.ckpt, with attention in the middle blocks only"
        )
