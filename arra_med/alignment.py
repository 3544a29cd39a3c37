"""ARRA's alignment term and the loss it belongs to (Xie et al., arXiv 2503.07334).

``L = L_AR + λ · L_GVA + w_z · mean(logsumexp(logits)²)``: next-token cross-entropy on the image
part, plus the distance between a projection of one decoder block's hidden states and a frozen
teacher's global vector of the target image. The alignment part exists in training only.

Positions are flat: position t of row b of a batch is ``b · T + t``; a row may hold several samples.

Shapes: B rows, T tokens, S samples, N positions with a target, M aligned positions, V vocabulary,
D hidden size, F teacher dimension.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from arra_med.errors import RequestError
from arra_med.model.backbones import decoder_blocks
from arra_med.model.head import split_head
from arra_med.model.packed import packed_mask, plain_causal
from arra_med.settings import Alignment as AlignmentSettings
from arra_med.token_loss import LossOfLogits, chunked_losses, losses_of_logits


class Losses(TypedDict, total=False):
    """Scalars of one batch, each the mean over samples of the mean over a sample's positions.

    ``total`` is what is minimised; ``cross_entropy`` (of the image part, in nats), ``z`` (mean
    squared logsumexp) and ``alignment`` (absent without a teacher) are its unweighted parts.
    """

    total: Tensor
    cross_entropy: Tensor
    z: Tensor
    alignment: Tensor


class Batch(TypedDict, total=False):
    """What the model trains on.

    Attributes:
        ids: ``(B, T)`` int64.
        positions: ``(B, T)`` int64, only where a row holds several samples: from 0 with each.
        predict: ``(N,)`` int64, the flat positions that have a target.
        targets: ``(N,)`` int64, the ids to predict there.
        target_weights: ``(N,)`` float32, their shares in the mean over samples.
        aligned: ``(M,)`` int64, the flat positions that are aligned.
        aligned_weights: ``(M,)`` float32, their shares.
        aligned_sample: ``(M,)`` int64, whose they are.
        teacher: ``(S, F)`` float32; this and ``aligned…`` only with alignment.
    """

    ids: Tensor
    positions: Tensor
    predict: Tensor
    targets: Tensor
    target_weights: Tensor
    aligned: Tensor
    aligned_weights: Tensor
    aligned_sample: Tensor
    teacher: Tensor


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

    def forward(
        self, hidden_MD: Tensor, weights_M: Tensor, sample_M: Tensor, num_samples: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Projections, their weights and the sample each belongs to.

        Returns:
            ``(M, F)``, ``(M,)`` and ``(M,)`` for ``mlp``; ``(S, F)``, ``(S,)`` and ``(S,)`` for
            ``pool``.
        """
        if self.kind == "mlp":
            return self.layers(hidden_MD), weights_M, sample_M
        weights_S = weights_M.new_zeros(num_samples).index_add(0, sample_M, weights_M)
        share_M = (weights_M / weights_S[sample_M])[:, None]
        empty_SD = hidden_MD.new_zeros(num_samples, hidden_MD.shape[1], dtype=torch.float32)
        pooled_SD = empty_SD.index_add(0, sample_M, hidden_MD.float() * share_M)
        everyone = torch.arange(num_samples, device=sample_M.device)
        return self.layers(pooled_SD.to(hidden_MD.dtype)), weights_S, everyone


def alignment_loss(
    projected_MF: Tensor, teacher_MF: Tensor, weights_M: Tensor, objective: str
) -> Tensor:
    """Weighted sum of distances to the teacher's vectors.

    Args:
        projected_MF: projected hidden states.
        teacher_MF: the global vector of each one's sample.
        weights_M: float32 shares.
        objective: ``cosine`` for 1 - cos, ``mse`` for the mean squared difference over F.

    Returns:
        Scalar float32.
    """
    projected, target = projected_MF.float(), teacher_MF.float()
    if objective == "cosine":
        distance_M = 1 - functional.cosine_similarity(projected, target, dim=-1)
    else:
        distance_M = (projected - target).square().mean(dim=-1)
    return (distance_M * weights_M).sum()


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
        self._split = split_head(backbone)
        self._losses_of_logits: LossOfLogits = losses_of_logits
        self.agreed_chunks: Callable[[int], int] = int
        """``agreed`` of :func:`chunked_losses`."""
        if not (alignment.enabled and alignment.weight > 0):
            return
        text_config = backbone.config.get_text_config()
        alignment.check_layer(text_config.num_hidden_layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = Projector(
                text_config.hidden_size, teacher_dimension, alignment.projector
            )
        self._blocks()[alignment.layer - 1].register_forward_hook(self._keep_hidden)

    def _keep_hidden(self, module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ANN401
        if self._listening:
            self._hidden_BTD = output[0] if isinstance(output, tuple) else output

    def compile_blocks(self) -> None:
        """Compile the decoder's blocks, one after another the same code, and the loss of logits."""
        for block in self._blocks():
            block.forward = torch.compile(block.forward)  # hooks stay outside
        self._losses_of_logits = torch.compile(losses_of_logits)

    def checkpoint_activations(self, every: int) -> None:
        """Recompute every ``every``-th block in the backward pass instead of keeping it.

        Raises:
            RequestError: if the architecture cannot.
        """
        try:
            self.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise RequestError(f"training.activation_checkpointing: {error}") from error
        for index, block in enumerate(self._blocks()):
            setattr(block, "gradient_checkpointing", index % every == 0)  # noqa: B010 - typed so

    def _blocks(self) -> nn.ModuleList:
        config = self.backbone.config.get_text_config()
        return decoder_blocks(self.backbone, config.num_hidden_layers)

    def forward(self, batch: Batch) -> Losses:
        """Losses of one batch."""
        cross_entropy, z = self._token_losses(batch)
        total = cross_entropy + self.z_weight * z
        if self.projector is None:
            return Losses(total=total, cross_entropy=cross_entropy, z=z)
        hidden_BTD, self._hidden_BTD = self._hidden_BTD, None
        assert hidden_BTD is not None, "the hook did not run"
        teacher_SF = batch["teacher"]
        projected, weights, sample = self.projector(
            hidden_BTD.flatten(0, 1)[batch["aligned"]],
            batch["aligned_weights"],
            batch["aligned_sample"],
            len(teacher_SF),
        )
        aligned = alignment_loss(projected, teacher_SF[sample], weights, self.settings.objective)
        total = total + self.settings.weight * aligned
        return Losses(total=total, cross_entropy=cross_entropy, z=z, alignment=aligned)

    def _token_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy and z of the batch, the hook's hidden state kept on the way.

        No mask is needed: padding stands on the right, where a causal model never looks back from
        a sample's own tokens.
        """
        inputs = {"input_ids": batch["ids"], "use_cache": False}
        if "positions" in batch:
            inputs["position_ids"] = batch["positions"]
            inputs["attention_mask"] = packed_mask(self.backbone, batch["positions"])
        predict, targets, weights = batch["predict"], batch["targets"], batch["target_weights"]
        self._listening = self.projector is not None
        attention = nullcontext() if "positions" in batch else plain_causal(self.backbone)
        try:
            with attention:
                if self._split is None:
                    logits_BTV = self.backbone(**inputs).logits
                    logits_NV = logits_BTV.flatten(0, 1)[predict]
                    return self._losses_of_logits(logits_NV, targets, weights)
                decoder, head = self._split
                hidden_BTD = decoder(**inputs).last_hidden_state
        finally:
            self._listening = False
        return chunked_losses(
            head,
            hidden_BTD.flatten(0, 1)[predict],
            targets,
            weights,
            vocabulary=self.backbone.config.get_text_config().vocab_size,
            losses=self._losses_of_logits,
            agreed=self.agreed_chunks,
        )
