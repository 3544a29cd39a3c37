"""Shared by the benches: timing with synchronisation, and the device's own measured ceilings."""

import time
from collections.abc import Callable

import torch


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
