"""Extraction, distances and the memorisation search of the evaluation, against their bounds.

    python scripts/bench/evaluate.py                             # all, at the sizes of issue 8
    python scripts/bench/evaluate.py --only memorisation extraction --device cuda

A bound is the time of the floating-point operations at the rate of the device's own square matrix
product, or of the bytes at the rate of its own copy, whichever is longer, both measured in the same
run. Seconds of the processor count all threads: where they fall well short of threads × wall time,
others used the cores too. The whole ``fidelity`` (with its intervals) is timed at its own size.

Extraction: drawn films in a prepared folder go through ``predict``; the rate leaves out the start
(worker processes, the batches they hold ready). Its bounds are the same network on a batch that is
on the device already (goal: 90 % of it), and decoding alone: one core's rate times the cores. On a
CPU both are done by the same cores, so that no program can be faster than
1 / (1 / forward + 1 / decoding). Without workers the network's part of the processor's time is the
share that does not depend on who else uses the cores.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from harness import copy_bytes, describe, matmul_flops, seconds
from networks import NETWORKS, save_films

from arra_med.eval.fidelity import (
    FeatureStats,
    fidelity,
    frechet_distance,
    kernel_distance,
    kid,
    prdc,
)
from arra_med.eval.inference import FolderPictures, predict
from arra_med.eval.memorisation import Pictures, Space, memorisation
from arra_med.eval.neighbours import nearest
from arra_med.parallel import available_cores, torch_threads
from arra_med.picture_loader import to_picture
from arra_med.store import PreparedFolder

CASES = ("extraction", "memorisation", "fd", "stats", "kid", "prdc", "fidelity")
Result = TypeVar("Result")


def main() -> None:
    """Time the chosen cases."""
    options = _options()
    device = torch.device(options.device)
    print(describe(device))
    if "extraction" in options.only:
        _extraction(options, device)
    if set(options.only) == {"extraction"}:
        return
    single, double = (matmul_flops(device, t) for t in (torch.float32, torch.float64))
    copied = copy_bytes(device)
    print(
        f"matrix product {single / 1e9:.0f} GFLOP/s float32, {double / 1e9:.0f} GFLOP/s float64; "
        f"copy {copied / 1e9:.1f} GB/s"
    )
    if "memorisation" in options.only:
        _memorisation(options, device, single, copied)
    if set(options.only) - {"extraction", "memorisation"}:
        _distances(options, device, double)


def _extraction(options: argparse.Namespace, device: torch.device) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_films(Path(scratch) / "prepared", options.pictures, options.picture_size)
        print(f"extraction: {options.pictures} films of {options.picture_size} px, float32")
        for name in options.networks:
            network = NETWORKS[name]().to(device).eval()
            forward, used, decoding = _bounds(network, folder, options.batch_size, device)
            print(f"  {name}: forward alone {forward:.1f} images/s, decoding alone {decoding:.1f}")
            both = 1 / (1 / forward + 1 / decoding)
            bound = both if device.type == "cpu" else min(forward, decoding)
            for workers in options.workers or [None]:
                rate, start, all_used = _predict_rate(network, folder, options, workers, device)
                how = "default" if workers is None else workers
                print(
                    f"  {name}, workers {how}: {rate:.1f} images/s after {start:.1f} s: "
                    f"{rate / forward:.0%} of forward alone (goal 90 %), {rate / bound:.0%} of the "
                    f"bound; the network took {used / all_used:.0%} of this process's processor",
                    flush=True,
                )


@torch.inference_mode()
def _bounds(
    network: torch.nn.Module, folder: PreparedFolder, batch_size: int, device: torch.device
) -> tuple[float, float, float]:
    """What extraction is held against.

    Returns:
        pictures a second of the network on a batch that is there, processor seconds a picture of
        it, and pictures a second of decoding on all cores.
    """
    pngs = [png for _, png in folder.read_chunk(0, 0)]
    with torch_threads(1):
        begun, done = time.perf_counter(), 0
        while time.perf_counter() < begun + 2:
            network.transform(to_picture(pngs[done % len(pngs)]))
            done += 1
        decoding = available_cores() * done / (time.perf_counter() - begun)
    decoded = [network.transform(to_picture(pngs[i % len(pngs)])) for i in range(batch_size)]
    batch = torch.stack(decoded).to(device)
    turns, repeats = (10, 5) if device.type == "cuda" else (1, 5)

    def forward() -> None:
        for _ in range(turns):
            network(batch)

    network(batch)
    used = time.process_time()
    taken = seconds(forward, device, repeats)
    used = (time.process_time() - used) / (repeats + 1)  # a warm-up is not timed
    return turns * batch_size / taken, used / turns / batch_size, decoding


def _predict_rate(
    network: torch.nn.Module,
    folder: PreparedFolder,
    options: argparse.Namespace,
    workers: int | None,
    device: torch.device,
) -> tuple[float, float, float]:
    """Pictures a second of ``predict``, seconds before they count, processor seconds a picture."""
    arrivals: list[tuple[float, int]] = []
    watch = network.register_forward_pre_hook(
        lambda _, given: arrivals.append((time.perf_counter(), len(given[0])))
    )
    begun, used = time.perf_counter(), time.process_time()
    predict(
        network,
        FolderPictures(folder, folder.keys),
        batch_size=options.batch_size,
        device=device,
        what="bench",
        workers=workers,
    )
    ended, used = time.perf_counter(), time.process_time() - used
    watch.remove()
    # those held ready when the first batch came were decoded before the clock starts
    ready = 2 * (available_cores() if workers is None else workers)
    ready = max(1, min(ready, len(arrivals) // 4))
    if len(arrivals) < 2:
        raise SystemExit("one batch says nothing of a rate: take more --pictures")
    counted = sum(size for _, size in arrivals[ready:])
    rate = counted / (ended - arrivals[ready][0])
    return rate, arrivals[ready][0] - begun, used / len(folder.keys)


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
    parser.add_argument("--pictures", type=int, help="for extraction")
    parser.add_argument("--picture-size", type=int, default=512)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int, nargs="+", help="by default what predict takes")
    parser.add_argument("--n", type=int, default=10_000, help="vectors of a set")
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--queries", type=int, default=5000, help="generated pictures")
    parser.add_argument("--train", type=int, default=220_000, help="training pictures")
    parser.add_argument("--train-dimension", type=int, default=768)
    parser.add_argument("--fidelity-n", type=int, default=2000)
    parser.add_argument("--fidelity-dimension", type=int, default=512)
    options = parser.parse_args()
    cpu = torch.device(options.device).type == "cpu"
    options.pictures = options.pictures or (64 if cpu else 32_768)
    options.batch_size = options.batch_size or (8 if cpu else 64)
    return options


if __name__ == "__main__":
    main()
