"""Chameleon's VQ-GAN: Meta's and transformers' files, against independent implementations."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from arra_med.errors import RequestError
from arra_med.tokenizers.base import load_tokenizer, tokenizer_id
from arra_med.tokenizers.chameleon_keys import VqArchitecture, meta_name
from arra_med.tokenizers.chameleon_vq import ChameleonVq, ChameleonVqOptions, code_change_share
from tests.tokenizers.meta_vqgan import PUBLISHED, SMALL, VqGan, pictures, save_ckpt, scaled

CPU = torch.device("cpu")


def opened(weights: Path, *, size: int = 64, channels: int = 3, **options: object) -> ChameleonVq:
    chosen = ChameleonVqOptions(weights=weights, **options)  # type: ignore[arg-type]
    return ChameleonVq.open(chosen, image_size=size, channels=channels)


def check_against(reference: VqGan, tokenizer: ChameleonVq, images: torch.Tensor) -> None:
    codes = tokenizer.encode(images)
    expected = reference.encode(scaled(images))
    assert codes.shape == (len(images), *(side // 16 for side in images.shape[2:]))
    assert codes.dtype == torch.int64
    assert len(expected.unique()) > 0.3 * expected.numel()
    assert torch.equal(codes, expected)
    pixels = reference.decode(expected)
    assert torch.allclose(tokenizer.decode_pixels(codes), pixels, atol=1e-4, rtol=0)
    decoded = tokenizer.decode(codes)
    assert (decoded.dtype, decoded.shape) == (torch.uint8, images.shape)
    levels = (pixels.clamp(-1, 1) + 1) * 127.5
    assert (decoded - levels).abs().max() <= 0.5 + 0.02


def test_small_it_gives_the_codes_and_pixels_of_the_published_network(
    reference: VqGan, ckpt: Path
) -> None:
    images = pictures(4, channels=3, height=48, width=64)
    check_against(reference, opened(ckpt), images)


def test_full_size_it_gives_the_codes_and_pixels_of_the_published_network(tmp_path: Path) -> None:
    reference = VqGan(**PUBLISHED)
    tokenizer = opened(save_ckpt(reference, tmp_path / "tokenizer" / "vqgan.ckpt").parents[1])
    assert tokenizer.architecture == VqArchitecture()
    assert (tokenizer.num_codes, tokenizer.grid) == (8192, (4, 4))
    ours = {meta_name(k, 5): tuple(t.shape) for k, t in tokenizer.model.state_dict().items()}
    theirs = {k: tuple(t.shape) for k, t in reference.state_dict().items()}
    projections = {k: (*s, 1, 1) for k, s in ours.items() if "attn_1" in k and len(s) == 2}
    assert ours | projections == theirs
    assert sum(p.numel() for p in tokenizer.parameters()) == 68_718_467
    check_against(reference, tokenizer, pictures(1, channels=3, height=64, width=64))


def test_every_value_is_scaled_as_meta_does(ckpt: Path) -> None:
    tokenizer = opened(ckpt, channels=1)
    seen: list[torch.Tensor] = []
    tokenizer.model.encoder.conv_in.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    tokenizer.encode(images)
    assert torch.equal(seen[0], scaled(images).expand(1, 3, 16, 16))


def test_grey_is_rgb_of_equal_parts_and_comes_back_as_luma(ckpt: Path) -> None:
    grey, colour = opened(ckpt, channels=1), opened(ckpt, channels=3)
    images = pictures(2, channels=1, height=64, width=64)
    codes = grey.encode(images)
    assert torch.equal(codes, colour.encode(images.expand(-1, 3, -1, -1)))
    r, g, b = grey.decode_pixels(codes).clamp(-1, 1).double().unbind(1)
    luma = ((0.299 * r + 0.587 * g + 0.114 * b + 1) * 127.5)[:, None]
    decoded = grey.decode(codes)
    assert decoded.shape == images.shape
    assert (decoded - luma).abs().max() <= 0.5 + 1e-4


def test_chunks_give_what_one_pass_gives(ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = opened(ckpt)
    images = pictures(5, channels=3, height=32, width=64)
    codes, pixels = tokenizer.encode(images), tokenizer.decode_pixels(tokenizer.encode(images))
    sizes: list[int] = []
    tokenizer.model.encoder.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    monkeypatch.setattr("arra_med.tokenizers.base.CHUNK_PIXELS", 2 * 32 * 64)
    assert torch.equal(tokenizer.encode(images), codes)
    assert sizes == [2, 2, 1]
    assert torch.allclose(tokenizer.decode_pixels(codes), pixels, atol=1e-4)


def test_the_encoder_of_transformers_gives_its_own_codes(hub: Path, ckpt: Path) -> None:
    from transformers import ChameleonForConditionalGeneration

    theirs = ChameleonForConditionalGeneration.from_pretrained(hub).model.vqmodel
    images = pictures(3, channels=3, height=64, width=64)
    with torch.no_grad():
        expected = theirs.encode(scaled(images)).image_tokens.reshape(3, 4, 4)
    tokenizer = opened(hub)
    assert not tokenizer.can_decode
    assert torch.equal(tokenizer.encode(images), expected)
    with pytest.raises(RequestError, match=r"encoder only.*decoder_weights.*vqgan\.ckpt"):
        tokenizer.decode(expected)
    both = opened(hub, decoder_weights=ckpt)
    assert torch.equal(both.decode(expected), opened(ckpt).decode(expected))


def test_a_decoder_of_another_codebook_is_refused(hub: Path, ckpt: Path, tmp_path: Path) -> None:
    other = VqGan(**SMALL)
    other.quantize.embedding.weight[3] += 0.1
    with pytest.raises(RequestError, match="another codebook"):
        opened(hub, decoder_weights=save_ckpt(other, tmp_path / "vqgan.ckpt"))
    with pytest.raises(RequestError, match="has its own decoder: leave decoder_weights out"):
        opened(ckpt, decoder_weights=ckpt)
    with pytest.raises(RequestError, match="has no decoder either"):
        opened(hub, decoder_weights=hub)


def test_a_checkpoint_in_bfloat16_takes_the_decoder_of_the_original(
    reference: VqGan, ckpt: Path, tmp_path: Path
) -> None:
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("decoder.")}
    half = {f"model.vqmodel.{k}": v.bfloat16().contiguous() for k, v in state.items()}
    save_file(half, tmp_path / "model.safetensors")
    assert opened(tmp_path, decoder_weights=ckpt).can_decode


def test_saved_and_loaded_it_gives_the_same(hub: Path, ckpt: Path, tmp_path: Path) -> None:
    images = pictures(1, channels=3, height=32, width=32)
    tokenizers = {
        "f32": opened(ckpt),
        "bf16": opened(ckpt, dtype="bfloat16"),
        "encoder": opened(hub),
    }
    for name, tokenizer in tokenizers.items():
        tokenizer.save(tmp_path / name)
        again = load_tokenizer(tmp_path / name)
        codes = again.encode(images)
        assert torch.equal(codes, tokenizer.encode(images))
        if again.can_decode:  # type: ignore[attr-defined]
            assert torch.equal(again.decode(codes), tokenizer.decode(codes))
    assert len({tokenizer_id(tmp_path / name) for name in tokenizers}) == 3
    config = json.loads((tmp_path / "f32" / "config.json").read_text())
    (tmp_path / "f32" / "config.json").write_text(json.dumps(config | {"decoder": False}))
    with pytest.raises(RequestError, match=r"does not fit config\.json"):
        load_tokenizer(tmp_path / "f32")


def test_bfloat16_changes_some_codes_and_the_share_is_counted(ckpt: Path) -> None:
    exact, rough = opened(ckpt), opened(ckpt, dtype="bfloat16")
    assert rough.model.encoder.conv_in.weight.dtype == torch.bfloat16
    assert rough.model.quantize.embedding.weight.dtype == torch.float32
    images = pictures(16, channels=3, height=32, width=32)
    changed = (exact.encode(images) != rough.encode(images)).double().mean()
    assert 0 < changed < 0.5
    assert code_change_share(exact, rough, images.split(4)) == pytest.approx(changed.item())
    assert code_change_share(exact, exact, [images]) == 0
    with pytest.raises(ValueError, match="no picture"):
        code_change_share(exact, rough, [])


def test_wrong_pictures_codes_and_sizes_are_refused(ckpt: Path) -> None:
    tokenizer = opened(ckpt)
    for images in (
        torch.zeros(1, 3, 64, 64),
        torch.zeros(1, 1, 64, 64, dtype=torch.uint8),
        torch.zeros(1, 3, 64, 40, dtype=torch.uint8),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
    ):
        with pytest.raises(ValueError, match=r"expected uint8 pictures of shape \(B, 3, H, W\)"):
            tokenizer.encode(images)
    with pytest.raises(ValueError, match="expected int64 codes of shape"):
        tokenizer.decode(torch.zeros(1, 16, dtype=torch.int64))
    for wrong in (-1, 96):
        with pytest.raises(ValueError, match="codes must be in 0 … 95"):
            tokenizer.decode(torch.full((1, 2, 2), wrong))
    with pytest.raises(RequestError, match=r"40 px and 3 channels.*multiples of 16 px"):
        opened(ckpt, size=40)
    with pytest.raises(RequestError, match="2 channels"):
        opened(ckpt, channels=2)


@pytest.mark.slow
def test_trained_weights_give_their_codes_back(tmp_path: Path) -> None:
    """Of held-out phantom chests most codes return: 0.86 when written, 1 of 64 by chance.

    A network of two resolutions (f2): the autoencoder, a codebook of cluster means, then the
    decoder from codes.
    """
    from arra_med.datasets.phantom.chest import draw_chest
    from arra_med.datasets.phantom.findings import ChestSpec

    chests = [ChestSpec(view=view) for view in ("PA", "lateral")] * 12
    films = [draw_chest(c, 16, np.random.default_rng(i)) for i, c in enumerate(chests)]
    turned = [np.rot90(film, k) for film in films for k in range(4)]
    images = torch.from_numpy((np.stack(turned)[:, None] * 255).astype(np.uint8))
    seen, held_out = images[:80], images[80:]
    reference = VqGan(ch=32, multipliers=(1, 2), z=16, dimension=16, codes=64)
    tokenizer = opened(save_ckpt(reference, tmp_path / "vqgan.ckpt"), size=16, channels=1)
    model, draw = tokenizer.model, torch.Generator().manual_seed(0)
    model.requires_grad_(True)

    def train(parameters: Iterable[torch.Tensor], latents: Callable[..., torch.Tensor]) -> None:
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        for _ in range(60):
            chosen = torch.randint(80, (8,), generator=draw)
            pixels = scaled(seen[chosen]).expand(-1, 3, -1, -1)
            decoded = model.decode(latents(chosen, pixels), True).sample
            loss = (decoded - pixels).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    train(model.parameters(), lambda _, pixels: model.encode(pixels).latents)
    with torch.no_grad():
        vectors = tokenizer._latents(seen).movedim(1, 3).reshape(-1, 16)
        book = vectors[torch.randperm(len(vectors), generator=draw)[:64]]
        for _ in range(20):
            nearest = torch.cdist(vectors, book).argmin(1)
            kept = [vectors[nearest == k] for k in range(64)]
            book = torch.stack([v.mean(0) if len(v) else book[k] for k, v in enumerate(kept)])
        model.quantize.embedding.weight[:] = book
    decoder = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    seen_codes = tokenizer.encode(seen)
    train(decoder, lambda chosen, _: book[seen_codes[chosen]].movedim(3, 1))
    codes = tokenizer.encode(held_out)
    share = code_share(tokenizer, codes)
    print(f"equal codes after decode and encode: {share:.3f}")
    assert len(codes.unique()) > 32
    assert len(codes.flatten(1).unique(dim=0)) == len(codes)
    assert share > 0.75
    assert code_share(tokenizer, tokenizer.encode(tokenizer.decode(codes))) > share


def code_share(tokenizer: ChameleonVq, codes: torch.Tensor) -> float:
    """Codes that decoding and encoding again gives back."""
    return (tokenizer.encode(tokenizer.decode(codes)) == codes).double().mean().item()
