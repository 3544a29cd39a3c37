"""Chameleon and ARRA's loss from the papers, in plain torch: one sequence at a time, no padding.

It shares no code with the library and reads the state dictionary and the sizes alone.
"""

import math

import torch
from torch import Tensor


class Reference:
    """A decoder from its weights.

    Args:
        weights: under transformers' names; query/key gains ``(groups, head size)``.
        heads: of queries.
        kv_heads: of keys and values.
        swin_norm: normalise what a half of a block adds, instead of what it reads.
    """

    def __init__(
        self, weights: dict[str, Tensor], *, heads: int, kv_heads: int, swin_norm: bool = False
    ) -> None:
        self.weights, self.heads, self.kv_heads = weights, heads, kv_heads
        self.swin_norm = swin_norm
        self.layers = 1 + max(
            int(name.split(".")[2]) for name in weights if name.startswith("model.layers.")
        )

    def hidden(self, ids: list[int]) -> list[Tensor]:
        """``(T, D)`` outputs of each block."""
        x = torch.stack([self.weights["model.embed_tokens.weight"][i] for i in ids])
        outputs = []
        for layer in range(self.layers):
            w = {
                name.removeprefix(f"model.layers.{layer}."): tensor
                for name, tensor in self.weights.items()
                if name.startswith(f"model.layers.{layer}.")
            }
            first, second = w["input_layernorm.weight"], w["post_attention_layernorm.weight"]
            if self.swin_norm:
                x = x + rms(self.attention(x, w), first)
                x = x + rms(feed_forward(x, w), second)
            else:
                x = x + self.attention(rms(x, first), w)
                x = x + feed_forward(rms(x, second), w)
            outputs.append(x)
        return outputs

    def logits(self, ids: list[int]) -> Tensor:
        """``(T, V)``."""
        return rms(self.hidden(ids)[-1], self.weights["model.norm.weight"]) @ (
            self.weights["lm_head.weight"].T
        )

    def attention(self, x: Tensor, w: dict[str, Tensor]) -> Tensor:
        size = w["self_attn.q_proj.weight"].shape[0] // self.heads
        q = self.split(x @ w["self_attn.q_proj.weight"].T, self.heads)
        k = self.split(x @ w["self_attn.k_proj.weight"].T, self.kv_heads)
        v = self.split(x @ w["self_attn.v_proj.weight"].T, self.kv_heads)
        q = self.rotate(self.normalise(q, w, "q"))
        k = self.rotate(self.normalise(k, w, "k"))
        out = []
        for head in range(self.heads):
            source = head * self.kv_heads // self.heads
            scores = q[head] @ k[source].T / math.sqrt(size)
            future = torch.ones_like(scores, dtype=torch.bool).triu(1)
            out.append(scores.masked_fill(future, -math.inf).softmax(dim=-1) @ v[source])
        return torch.cat(out, dim=-1) @ w["self_attn.o_proj.weight"].T

    @staticmethod
    def split(x: Tensor, heads: int) -> list[Tensor]:
        return list(x.chunk(heads, dim=-1))

    @staticmethod
    def normalise(heads: list[Tensor], w: dict[str, Tensor], kind: str) -> list[Tensor]:
        """Layer normalisation of each head; heads of one group share gain and bias."""
        gain, bias = (w[f"self_attn.{kind}_norm.{part}"] for part in ("weight", "bias"))
        gain, bias = gain.reshape(-1, heads[0].shape[-1]), bias.reshape(-1, heads[0].shape[-1])
        done = []
        for index, x in enumerate(heads):
            group = index * len(gain) // len(heads)
            centred = x - x.mean(dim=-1, keepdim=True)
            scale = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
            done.append(centred / scale * gain[group] + bias[group])
        return done

    @staticmethod
    def rotate(heads: list[Tensor]) -> list[Tensor]:
        """Rotary positions: coordinates j and j + half turn by position / 10000^(j/half)."""
        length, size = heads[0].shape
        half = size // 2
        angle = torch.arange(length)[:, None] / 10000 ** (torch.arange(half) / half)
        cos, sin = angle.cos(), angle.sin()
        return [
            torch.cat(
                [x[:, :half] * cos - x[:, half:] * sin, x[:, half:] * cos + x[:, :half] * sin],
                dim=-1,
            )
            for x in heads
        ]


def rms(x: Tensor, gain: Tensor) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * gain


def feed_forward(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    gate = x @ w["mlp.gate_proj.weight"].T
    inner = gate * torch.sigmoid(gate) * (x @ w["mlp.up_proj.weight"].T)
    return inner @ w["mlp.down_proj.weight"].T


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def arra_losses(
    reference: Reference,
    projector: dict[str, Tensor],
    sequences: list[tuple[list[int], list[int]]],
    image_codes: set[int],
    teacher: Tensor,
    *,
    layer: int,
    weight: float,
    z_weight: float,
) -> dict[str, float]:
    """ARRA's losses by loops over samples and positions.

    Args:
        reference: the model.
        projector: ``layers.0`` and ``layers.2`` of the MLP.
        sequences: tokens up to the last of the image start, and the image part, of each sample.
        image_codes: token ids of image codes.
        teacher: ``(B, F)``.
        layer: aligned block, from 1.
        weight: λ.
        z_weight: w_z.
    """
    cross, z, align = [], [], []
    for (before, image), target in zip(sequences, teacher, strict=True):
        ids = [*before, *image]
        logits, hidden = reference.logits(ids), reference.hidden(ids)[layer - 1]
        sample_cross, sample_z, sample_align = [], [], []
        for position in range(len(before) - 1, len(ids) - 1):
            following = ids[position + 1]
            log_sum = torch.log(torch.exp(logits[position].double()).sum())
            sample_cross.append(log_sum - logits[position, following].double())
            sample_z.append(log_sum**2)
            if following in image_codes:
                inner = gelu(hidden[position] @ projector["layers.0.weight"].T
                             + projector["layers.0.bias"])  # fmt: skip
                f = inner @ projector["layers.2.weight"].T + projector["layers.2.bias"]
                sample_align.append(1 - f @ target / (f.norm() * target.norm()))
        cross.append(sum(sample_cross) / len(sample_cross))
        z.append(sum(sample_z) / len(sample_z))
        align.append(sum(sample_align) / len(sample_align))
    means = [float(sum(values) / len(values)) for values in (cross, z, align)]
    return {
        "cross_entropy": means[0],
        "z": means[1],
        "alignment": means[2],
        "total": means[0] + z_weight * means[1] + weight * means[2],
    }
