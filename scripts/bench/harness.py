"""Shared by the benches: a model of a chosen size, timing, and the device's measured ceilings."""

import argparse
import time
from collections.abc import Callable

import torch
from transformers import ChameleonConfig, LlamaConfig

from arra_med.model.layout import ImageLayout

TEXT_TOKENS = 512


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of every bench: device, precision and sizes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--side", type=int, default=12, help="codes along one side")
    parser.add_argument("--prompt", type=int, default=30, help="tokens of a prompt")
    return parser


def llama(options: argparse.Namespace) -> tuple[LlamaConfig, ImageLayout]:
    """Configuration of a LLaMA of the chosen size, and the layout of its image tokens."""
    layout = ImageLayout(
        start_ids=(TEXT_TOKENS,),
        end_ids=(TEXT_TOKENS + 1,),
        code_ids=tuple(range(TEXT_TOKENS + 2, TEXT_TOKENS + 2 + options.codes)),
        grid=(options.side, options.side),
        pad_id=0,
    )
    config = LlamaConfig(
        vocab_size=TEXT_TOKENS + 2 + options.codes,
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 43 // 16,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
    )
    return config, layout


def chameleon_7b() -> tuple[ChameleonConfig, ImageLayout]:
    """Sizes of Chameleon 7B and the layout of its 512 px images, as METHOD.md states them."""
    config = ChameleonConfig(vocabulary_map={"<image>": 8711}, pad_token_id=1)
    layout = ImageLayout(
        start_ids=(8197, 8820, 8820),
        end_ids=(8196, 8710),
        code_ids=tuple(range(4, 8196)),
        grid=(32, 32),
        pad_id=1,
        prompt_end_ids=(8710,),
        row_end_ids=(8803,),
    )
    return config, layout


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of one call of ``work`` after one warm-up call."""
    times = []
    for turn in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if turn:
            times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2]


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the device's own square matrix product."""
    size = 8192 if device.type == "cuda" else 1536
    a = torch.randn(size, size, device=device, dtype=dtype)
    b = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / seconds(lambda: a @ b, device, 5)


def copy_bytes(device: torch.device) -> float:
    """Bytes a second of the device's own copy, read and write counted."""
    count = 2**30 if device.type == "cuda" else 2**27
    a = torch.empty(count, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * count / seconds(lambda: b.copy_(a), device, 5)


def describe(device: torch.device) -> str:
    """The device and torch's version, in words."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return f"{name}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}"
