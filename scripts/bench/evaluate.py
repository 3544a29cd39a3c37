"""Distances and the memorisation search of the evaluation, against the device's matrix product.

    python scripts/bench/evaluate.py                             # all, at the sizes of issue 8
    python scripts/bench/evaluate.py --only memorisation --device cuda

A bound is the time of the floating-point operations at the rate of the device's own square matrix
product, or of the bytes at the rate of its own copy, whichever is longer, both measured in the same
run. Seconds of the processor count all threads: where they fall well short of threads × wall time,
others used the cores too. The whole ``fidelity`` (with its intervals) is timed at its own size.
"""

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from harness import copy_bytes, describe, matmul_flops

from arra_med.eval.fidelity import (
    FeatureStats,
    fidelity,
    frechet_distance,
    kernel_distance,
    kid,
    prdc,
)
from arra_med.eval.memorisation import Pictures, Space, memorisation
from arra_med.eval.neighbours import nearest

CASES = ("memorisation", "fd", "stats", "kid", "prdc", "fidelity")
Result = TypeVar("Result")


def main() -> None:
    """Time the chosen cases."""
    options = _options()
    device = torch.device(options.device)
    print(describe(device))
    single, double = (matmul_flops(device, t) for t in (torch.float32, torch.float64))
    copied = copy_bytes(device)
    print(
        f"matrix product {single / 1e9:.0f} GFLOP/s float32, {double / 1e9:.0f} GFLOP/s float64; "
        f"copy {copied / 1e9:.1f} GB/s"
    )
    if "memorisation" in options.only:
        _memorisation(options, device, single, copied)
    if set(options.only) - {"memorisation"}:
        _distances(options, device, double)


def _memorisation(
    options: argparse.Namespace, device: torch.device, flops: float, copied: float
) -> None:
    n, d, queries = options.train, options.train_dimension, options.queries
    rng = np.random.default_rng(0)
    train = rng.standard_normal((n, d), dtype=np.float32)
    made = rng.standard_normal((queries, d), dtype=np.float32)
    made[:10] = train[::-1][:10]
    print(f"memorisation: {queries} against {n} vectors of {d}")

    def search(count: int) -> float:
        return max(2.0 * count * n * d / flops, -(-count // 4096) * n * d * 4 / copied)

    found = _timed(
        "  nearest neighbours", lambda: nearest(made, train, device=device), search(queries)
    )
    assert (found.distances[:10] == 0).all()
    held_out, sample, planted = 2000, 2000, 200
    space = Space(
        name="bench",
        metric="euclidean",
        train=train,
        generated=made,
        held_out=rng.standard_normal((held_out, d), dtype=np.float32),
        planted=dict.fromkeys(("exact", "two levels", "jpeg"), train[:planted]),
    )
    pictures = Pictures(
        train_keys=[str(i) for i in range(n)],
        train_patients=[str(i // 4) for i in range(n)],
        held_out_patients=[f"h{i}" for i in range(held_out)],
        generated_keys=[str(i) for i in range(queries)],
        generated_patients=[f"q{i}" for i in range(queries)],
        planted_rows=np.arange(planted),
    )
    whole = _timed(
        "  with calibration and controls",
        lambda: memorisation([space], pictures, generator=rng, train_sample=sample, device=device),
        search(queries + held_out + sample + 3 * planted),
    )
    print(
        f"  {len(whole.matches)} matches (10 planted); peak memory of the process "
        f"{_peak_bytes() / 2**30:.2f} GiB, the vectors' {train.nbytes / 2**30:.2f} included"
    )


def _distances(options: argparse.Namespace, device: torch.device, flops: float) -> None:
    n, d = options.n, options.dimension
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((n, d), dtype=np.float32) for _ in range(2))
    print(f"distances: {n} against {n} vectors of {d}, float64")
    # two covariances, two Cholesky factors, their product, its singular values
    frechet = 2 * 2.0 * n * d**2 + 2 * d**3 / 3 + 2.0 * d**3 + 8 * d**3 / 3
    cases: dict[str, tuple[str, Callable[[], object], float]] = {
        "fd": (
            "  Fréchet distance",
            lambda: frechet_distance(x, y, device=device),
            frechet / flops,
        ),
        "stats": (
            "  moments of one set in batches of 256",
            lambda: [
                stats.update(x[i : i + 256])
                for stats in [FeatureStats(d)]
                for i in range(0, n, 256)
            ],
            2.0 * n * d**2 / flops,
        ),
        "kid": (
            "  KID in subsets of 1,000, 1,000 resamples (CPU)",
            lambda: kid(x, y, generator=rng),
            3 * 2.0 * n * 1000 * (d + 1000) / flops,
        ),
        "prdc": (
            "  precision to coverage",
            lambda: prdc(x, y, device=device),
            3 * 2.0 * n * n * d / flops,
        ),
    }
    for name, case in cases.items():
        if name in options.only:
            _timed(*case)
    if "kid" in options.only:
        bound = 3 * 2.0 * n * n * d / flops
        _timed("  KID, all against all, no interval (CPU)", lambda: kernel_distance(x, y), bound)
    if "fidelity" in options.only:
        n, d = options.fidelity_n, options.fidelity_dimension
        a, b = (rng.standard_normal((n, d)) for _ in range(2))
        label = f"  everything with intervals, {n} against {n} vectors of {d}"
        _timed(label, lambda: fidelity(a, b, generator=rng, device=device), None)


def _timed(name: str, work: Callable[[], Result], bound: float | None) -> Result:
    begun, processor = time.perf_counter(), time.process_time()
    result = work()
    wall, used = time.perf_counter() - begun, time.process_time() - processor
    goal = "" if bound is None else f"; bound {bound:.2f} s, {bound / wall:.0%} of the time"
    print(f"{name}: {wall:.2f} s ({used:.1f} s of the processor){goal}", flush=True)
    return result


def _peak_bytes() -> int:
    """Most memory that this process has held at once (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--n", type=int, default=10_000, help="vectors of a set")
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--queries", type=int, default=5000, help="generated pictures")
    parser.add_argument("--train", type=int, default=220_000, help="training pictures")
    parser.add_argument("--train-dimension", type=int, default=768)
    parser.add_argument("--fidelity-n", type=int, default=2000)
    parser.add_argument("--fidelity-dimension", type=int, default=512)
    return parser.parse_args()


if __name__ == "__main__":
    main()
