"""ARRA's alignment term and the loss it belongs to (Xie et al., arXiv 2503.07334).

``L = L_AR + λ · L_GVA + w_z · mean(logsumexp(logits)²)``: next-token cross-entropy on the image
part, plus the distance between a projection of one decoder block's hidden states and a frozen
teacher's global vector of the target image. The alignment part exists in training only.

Shapes: B samples, T tokens, U kept positions, V vocabulary, D hidden size, F teacher dimension.
"""

from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from arra_med.errors import RequestError
from arra_med.model.backbones import decoder_blocks
from arra_med.model.layout import IGNORED
from arra_med.settings import Alignment as AlignmentSettings


class Losses(TypedDict, total=False):
    """Scalars of one batch, each the mean over samples of the mean over a sample's positions.

    ``total`` is what is minimised; ``cross_entropy`` (of the image part, in nats), ``z`` (mean
    squared logsumexp) and ``alignment`` (absent without a teacher) are its unweighted parts.
    """

    total: Tensor
    cross_entropy: Tensor
    z: Tensor
    alignment: Tensor


class Projector(nn.Module):
    """Maps hidden states of one block to the teacher's space.

    Args:
        hidden_size: D.
        dimension: F.
        kind: ``mlp`` (D → F → F with GELU, position by position) or ``pool`` (the span's mean,
            then one linear map).
    """

    def __init__(self, hidden_size: int, dimension: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "mlp":
            self.layers = nn.Sequential(
                nn.Linear(hidden_size, dimension), nn.GELU(), nn.Linear(dimension, dimension)
            )
        else:
            self.layers = nn.Sequential(nn.Linear(hidden_size, dimension))

    def forward(self, hidden_BTD: Tensor, span_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Projections and the mask of those that count.

        Returns:
            ``(B, T, F)`` and ``(B, T)`` bool for ``mlp``; ``(B, 1, F)`` and ``(B, 1)`` for
            ``pool``.
        """
        if self.kind == "mlp":
            return self.layers(hidden_BTD), span_BT
        weight = span_BT.to(hidden_BTD.dtype) / span_BT.sum(dim=1, keepdim=True)
        pooled = torch.einsum("btd,bt->bd", hidden_BTD, weight)
        return self.layers(pooled)[:, None], torch.ones_like(span_BT[:, :1])


def alignment_loss(
    projected_BTF: Tensor, span_BT: Tensor, teacher_BF: Tensor, objective: str
) -> Tensor:
    """Mean over a sample's span, then over samples, of the distance to the teacher's vector.

    Args:
        projected_BTF: projected hidden states.
        span_BT: bool, positions that count; at least one a sample.
        teacher_BF: the teacher's global vectors.
        objective: ``cosine`` for 1 - cos, ``mse`` for the mean squared difference over F.

    Returns:
        Scalar float32.
    """
    projected = projected_BTF.float()
    target = teacher_BF.float()[:, None]
    if objective == "cosine":
        distance_BT = 1 - functional.cosine_similarity(projected, target, dim=-1)
    else:
        distance_BT = (projected - target).square().mean(dim=-1)
    return sample_mean(distance_BT, span_BT)


def sample_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the masked positions of each sample, then over samples.

    Values outside the mask get no gradient. Equal shares of a batch on several ranks average to
    the value of the whole batch.
    """
    kept = torch.where(mask_BT, values_BT, values_BT.new_zeros(()))
    return (kept.sum(dim=1) / mask_BT.sum(dim=1)).mean()


class ArraModel(nn.Module):
    """A backbone with ARRA's training loss; the export keeps the backbone alone.

    Args:
        backbone: any causal language model whose vocabulary holds the image tokens.
        alignment: settings of the term; not ``enabled`` or of weight 0 means no term.
        teacher_dimension: length of the teacher's vectors; 0 without alignment.
        z_weight: w_z.
        seed: of the projector's weights.

    Raises:
        RequestError: if the layer does not exist.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        alignment: AlignmentSettings,
        *,
        teacher_dimension: int,
        z_weight: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.settings = alignment
        self.z_weight = z_weight
        self.projector: Projector | None = None
        self._listening = False
        self._hidden_BTD: Tensor | None = None
        if not (alignment.enabled and alignment.weight > 0):
            return
        text_config = backbone.config.get_text_config()
        if not 1 <= alignment.layer <= text_config.num_hidden_layers:
            raise RequestError(
                f"alignment.layer is {alignment.layer}, the backbone has blocks 1 to "
                f"{text_config.num_hidden_layers}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = Projector(
                text_config.hidden_size, teacher_dimension, alignment.projector
            )
        blocks = decoder_blocks(backbone, text_config.num_hidden_layers)
        blocks[alignment.layer - 1].register_forward_hook(self._keep_hidden)

    def _keep_hidden(self, module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ANN401
        if self._listening:
            self._hidden_BTD = output[0] if isinstance(output, tuple) else output

    def forward(self, batch: dict[str, Tensor]) -> Losses:
        """Losses of one batch.

        Args:
            batch: ``ids``, ``targets`` ``(B, T)`` int64, ``attention`` and ``aligned`` ``(B, T)``
                bool, and with alignment ``teacher`` ``(B, F)`` float32.
        """
        targets_BT = batch["targets"]
        has_target_BT = targets_BT != IGNORED
        kept_U = has_target_BT.any(dim=0).nonzero()[:, 0]
        self._listening = True
        output = self.backbone(
            input_ids=batch["ids"],
            attention_mask=batch["attention"].long(),
            use_cache=False,
            logits_to_keep=kept_U,
        )
        self._listening = False
        logits_BUV = output.logits.float()
        targets_BU, mask_BU = targets_BT[:, kept_U], has_target_BT[:, kept_U]
        logsumexp_BU = logits_BUV.logsumexp(dim=-1)
        target_logits_BU = logits_BUV.gather(-1, targets_BU.clamp(min=0)[..., None])[..., 0]
        cross_entropy = sample_mean(logsumexp_BU - target_logits_BU, mask_BU)
        z = sample_mean(logsumexp_BU.square(), mask_BU)
        total = cross_entropy + self.z_weight * z
        if self.projector is None:
            return Losses(total=total, cross_entropy=cross_entropy, z=z)
        hidden_BTD, self._hidden_BTD = self._hidden_BTD, None
        assert hidden_BTD is not None, "the hook did not run"
        projected, span = self.projector(hidden_BTD, batch["aligned"])
        aligned = alignment_loss(projected, span, batch["teacher"], self.settings.objective)
        total = total + self.settings.weight * aligned
        return Losses(total=total, cross_entropy=cross_entropy, z=z, alignment=aligned)
