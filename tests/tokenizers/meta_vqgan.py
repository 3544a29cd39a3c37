"""Chameleon's VQ-GAN in plain torch, from the published architecture, under Meta's names.

An independent reference: nothing of arra_med, diffusers or transformers. Its ``state_dict`` is
the ``state_dict`` of Meta's ``vqgan.ckpt``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

PUBLISHED = {"ch": 128, "multipliers": (1, 1, 2, 2, 4), "z": 256, "dimension": 256, "codes": 8192}
SMALL = {"ch": 32, "multipliers": (1, 1, 2, 2, 4), "z": 24, "dimension": 16, "codes": 96}


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class ResnetBlock(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inside), nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2, self.conv2 = norm(outside), nn.Conv2d(outside, outside, 3, padding=1)
        if inside != outside:
            self.nin_shortcut = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(swish(self.norm2(self.conv1(swish(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in "qkvo")

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.einsum("bci,bcj->bij", q, k) * x.shape[1] ** -0.5
        h = torch.einsum("bij,bcj->bci", weights.softmax(dim=2), v).reshape(x.shape)
        return x + self.proj_out(h)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


def middle(channels: int) -> nn.Module:
    mid = nn.Module()
    mid.block_1, mid.block_2 = ResnetBlock(channels, channels), ResnetBlock(channels, channels)
    mid.attn_1 = AttnBlock(channels)
    return mid


class Encoder(nn.Module):
    def __init__(self, ch: int, multipliers: tuple[int, ...], z: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, ch, 3, padding=1)
        self.down = nn.ModuleList()
        inside = ch
        for level, multiplier in enumerate(multipliers):
            outside = ch * multiplier
            down = nn.Module()
            down.block = nn.ModuleList(
                [ResnetBlock(inside, outside), ResnetBlock(outside, outside)]
            )
            if level < len(multipliers) - 1:
                down.downsample = Downsample(outside)
            self.down.append(down)
            inside = outside
        self.mid = middle(inside)
        self.norm_out, self.conv_out = norm(inside), nn.Conv2d(inside, z, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for down in self.down:
            for block in down.block:
                h = block(h)
            if hasattr(down, "downsample"):
                h = down.downsample(h)
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h)))
        return self.conv_out(swish(self.norm_out(h)))


class Decoder(nn.Module):
    def __init__(self, ch: int, multipliers: tuple[int, ...], z: int) -> None:
        super().__init__()
        inside = ch * multipliers[-1]
        self.conv_in, self.mid = nn.Conv2d(z, inside, 3, padding=1), middle(inside)
        ups = []
        for level in reversed(range(len(multipliers))):
            outside = ch * multipliers[level]
            up = nn.Module()
            up.block = nn.ModuleList(
                [ResnetBlock(inside if i == 0 else outside, outside) for i in range(3)]
            )
            if level > 0:
                up.upsample = Upsample(outside)
            ups.insert(0, up)  # up[0] is the full resolution, and the last to run
            inside = outside
        self.up = nn.ModuleList(ups)
        self.norm_out, self.conv_out = norm(inside), nn.Conv2d(inside, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(self.conv_in(z))))
        for up in reversed(self.up):
            for block in up.block:
                h = block(h)
            if hasattr(up, "upsample"):
                h = up.upsample(h)
        return self.conv_out(swish(self.norm_out(h)))


class VqGan(nn.Module):
    """Random weights; the codebook has the spread of the latents, so that many codes occur."""

    def __init__(
        self, *, ch: int, multipliers: tuple[int, ...], z: int, dimension: int, codes: int
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder(ch, multipliers, z)
        self.decoder = Decoder(ch, multipliers, z)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(codes, dimension)
        self.quant_conv = nn.Conv2d(z, dimension, 1)
        self.post_quant_conv = nn.Conv2d(dimension, z, 1)
        with torch.no_grad():
            for module in self.modules():  # no two norms alike
                if isinstance(module, nn.GroupNorm):
                    module.weight.normal_(1, 0.2)
                    module.bias.normal_(0, 0.2)
            latents = self.latents(torch.rand(2, 3, 64, 64) * 2 - 1)
            mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
            self.quantize.embedding.weight.copy_(mean + std * torch.randn(codes, dimension))
        self.eval().requires_grad_(False)

    def latents(self, pixels: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(pixels))

    def encode(self, pixels: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [-1, 1] to codes: the least of ‖z‖² + ‖e‖² - 2 z·e."""
        z = self.latents(pixels).permute(0, 2, 3, 1)
        rows, book = z.reshape(-1, z.shape[-1]), self.quantize.embedding.weight
        distances = (rows**2).sum(1, keepdim=True) + (book**2).sum(1) - 2 * rows @ book.T
        return distances.argmin(dim=1).reshape(z.shape[:3])

    def decode(self, codes: Tensor) -> Tensor:
        vectors = self.quantize.embedding(codes).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(vectors))


def pictures(num: int, *, channels: int, height: int, width: int) -> torch.Tensor:
    """Smooth noise, so that neighbouring codes differ."""
    torch.manual_seed(1)
    coarse = torch.rand(num, channels, height // 4, width // 4)
    images = torch.nn.functional.interpolate(coarse, scale_factor=4.0, mode="bilinear")
    return (images * 255).to(torch.uint8)


def scaled(images: Tensor) -> Tensor:
    """uint8 to [-1, 1] as Meta does: numpy's float64 division, then float32."""
    return torch.from_numpy(images.numpy() / 255.0 * 2 - 1).float()


def save_ckpt(model: VqGan, path: Path, **others: object) -> Path:
    """As Lightning writes it, with the discriminator and perceptual loss of training."""
    state = dict(model.state_dict()) | {"loss.discriminator.main.0.weight": torch.zeros(2, 3, 4, 4)}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "epoch": 3, "global_step": 7} | others, path)
    return path
