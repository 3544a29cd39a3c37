"""Ingest against the bound of decoding and resizing, and against the plain loop.

    python scripts/bench/ingest.py [--repeats 5 --films 64 --small 200]

It draws its own films and prints, in one run:

1. for every kind of file and rendering, images a second and core of our path (read, hash, render,
   fit, PNG), its share of the bound (read, decode and resize alone, by the same libraries), its
   ratio to the plain loop (dcmread, float64 rendering, resize, save) and what the time goes into;
2. the whole ingest with two worker processes against one;
3. the peak memory of an ingest of few small pictures and of four times as many.

Times of one process are CPU seconds, the best of several turns, which other work beside disturbs
least.
"""

import argparse
import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from arra_med import images
from arra_med.config import PluginConfig
from arra_med.datasets import dicom, dicom_codecs, pictures
from arra_med.datasets.ingest import ingest
from arra_med.datasets.mimic_cxr import MimicCxrOptions
from arra_med.datasets.phantom.cxr_files import dicom_bytes, study_files, tables
from arra_med.datasets.phantom.cxr_plan import plan_studies
from arra_med.datasets.privacy.identifiers import dicom_identifiers, image_identifiers
from arra_med.settings import Ingest

SIZE = 512
ROWS, COLUMNS = 3056, 2544  # the commonest size of MIMIC-CXR, by default
SHARES = (1.0, 0.0, 0.0)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="turns of which the best counts")
    parser.add_argument("--films", type=int, default=64, help="large films for two workers")
    parser.add_argument("--small", type=int, default=200, help="small pictures for the memory")
    parser.add_argument(
        "--columns", type=int, default=COLUMNS, help="of a large film (%(default)s)"
    )
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:  # the process whose memory is measured
        watching = threading.Thread(target=_watch_memory, daemon=True)
        watching.start()
        ingest(_settings(options.peak_of / "source", 1), options.peak_of / "prepared")
        print(_peak_kib)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = _films(folder, options.columns)
        _one_process(files, folder, options.repeats)
        _two_workers(files["uncompressed"], folder / "workers", options.films)
        _memory(folder / "memory", options.small)


_peak_kib = 0


def _watch_memory() -> None:
    """Resident memory of this process and its workers, looked at every 20 ms."""
    global _peak_kib
    this = psutil.Process()
    while True:
        total = 0
        for process in (this, *this.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        _peak_kib = max(_peak_kib, total // 1024)
        time.sleep(0.02)


def _films(folder: Path, columns: int) -> dict[str, Path]:
    """A phantom film as MIMIC-CXR's scanners and other archives would store it."""
    study = plan_studies(8, seed=1, shares=SHARES)[0]
    dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(study, study.pictures[0], 1024)))
    drawn = Image.fromarray(dataset.pixel_array.astype(np.float32))
    size = (columns, columns * ROWS // COLUMNS)
    smooth = np.asarray(drawn.resize(size, Image.Resampling.BICUBIC))
    grain = np.random.default_rng(0).normal(0, 12, smooth.shape)  # enlarging took the film's away
    film = (smooth + grain).clip(0, 4095).astype(np.uint16)
    dataset.Rows, dataset.Columns = film.shape
    dataset.PixelData = film.tobytes()
    files = {"uncompressed": folder / "film.dcm"}
    dataset.save_as(files["uncompressed"])
    for name, syntax in (("JPEG-LS", JPEGLSLossless), ("JPEG 2000", JPEG2000Lossless)):
        packed = pydicom.dcmread(files["uncompressed"])
        packed.compress(syntax)
        files[name] = folder / f"{name}.dcm"
        packed.save_as(files[name])
    files["1024 px JPG"] = folder / "film.jpg"
    eight_bit = Image.fromarray((film >> 4).astype(np.uint8))
    eight_bit.resize((1024, 1024)).save(files["1024 px JPG"], quality=95)
    return files


def _one_process(files: dict[str, Path], folder: Path, repeats: int) -> None:
    print(f"one process, {SIZE} px, best of {repeats}: CPU milliseconds an image")
    for name, path in files.items():
        plain_image = path.suffix == ".jpg"
        for style in ("clinical",) if plain_image else ("clinical", "mimic-jpg"):
            ours = _best(lambda p=path, s=style: _our_path(p, s), repeats)
            shown = pictures.read_picture(path, channels=1, rendering=style).pixels
            decode = partial(_decoded, path)
            bound = _best(lambda d=decode, s=shown: (d(), _fitted(s)), repeats)
            plain = _best(lambda p=path, s=style: _plain_loop(p, s, folder / "out.png"), repeats)
            print(
                f"  {name:13s} {style:9s} {1 / ours:6.1f} images/s/core, {1e3 * ours:6.1f} ms; "
                f"bound {1e3 * bound:6.1f} ms ({bound / ours:.0%}); "
                f"plain loop {1e3 * plain:6.1f} ms (ratio {plain / ours:.1f})",
                flush=True,
            )
            steps = _where(path, style, shown, repeats)
            demanded = 1e3 * bound + steps["SHA-256"] + steps["PNG"]
            print(
                f"    with the hash and the PNG that a prepared folder needs the bound is "
                f"{demanded:.1f} ms ({demanded / ours / 1e3:.0%}). Alone: "
                + ", ".join(f"{step} {taken:.1f}" for step, taken in steps.items()),
                flush=True,
            )


def _our_path(path: Path, style: dicom.Rendering) -> bytes:
    picture = pictures.read_picture(path, channels=1, rendering=style)
    return images.encode_png(_fitted(picture.pixels))


def _fitted(picture: np.ndarray) -> np.ndarray:
    return images.fit(picture, SIZE, "center-crop")


def _decoded(path: Path) -> np.ndarray:
    if path.suffix == ".jpg":
        return np.asarray(Image.open(path))
    return pydicom.dcmread(path).pixel_array


def _plain_loop(path: Path, style: dicom.Rendering, out: Path) -> None:
    """What one writes in an afternoon."""
    if path.suffix == ".jpg":
        picture = np.asarray(Image.open(path).convert("L"))
    else:
        dataset = pydicom.dcmread(path)
        picture = (_plain_mimic if style == "mimic-jpg" else _plain_clinical)(dataset)
    scale = SIZE / min(picture.shape)
    height, width = (round(side * scale) for side in picture.shape)
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    resized.crop((left, top, left + SIZE, top + SIZE)).save(out)


def _plain_mimic(dataset: Dataset) -> np.ndarray:
    values = dataset.pixel_array.astype(np.float64)
    values = (values - values.min()) / (values.max() - values.min()) * 255
    picture = values.astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        picture = 255 - picture
    counts = np.bincount(picture.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    sums = np.cumsum(counts) - counts[first]
    return np.rint(sums / sums[-1] * 255).astype(np.uint8)[picture]


def _plain_clinical(dataset: Dataset) -> np.ndarray:
    values = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float64)
    center, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    shown = ((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    picture = np.rint(shown * 255).astype(np.uint8)
    return 255 - picture if dataset.PhotometricInterpretation == "MONOCHROME1" else picture


def _where(path: Path, style: dicom.Rendering, shown: np.ndarray, repeats: int) -> dict[str, float]:
    """Milliseconds of the steps of our path, each alone."""
    data = path.read_bytes()
    steps: dict[str, Callable[[], object]] = {
        "read": path.read_bytes,
        "SHA-256": lambda: hashlib.sha256(data).hexdigest(),
    }
    if path.suffix == ".jpg":
        image = Image.open(path)
        steps["decode"] = lambda: pictures.decode_image(data, channels=1)
        steps["identifiers"] = lambda: image_identifiers(image)
    else:
        dataset = dicom.parse(data)
        steps["parse"] = lambda: dicom.parse(data)
        steps["decode"] = lambda: dicom_codecs.decode(dataset)
        steps["render"] = lambda: dicom.render_dataset(dataset, style)  # less decoding, below
        steps["identifiers"] = lambda: dicom_identifiers(dataset)
    small = _fitted(shown)
    steps["resize"] = lambda: _fitted(shown)
    steps["PNG"] = lambda: images.encode_png(small)
    taken = {name: 1e3 * _best(step, repeats) for name, step in steps.items()}
    if "render" in taken:
        taken["render"] -= taken["decode"]
    return taken


def _two_workers(film: Path, folder: Path, count: int) -> None:
    source = folder / "source"
    _mimic_folder(source, count, 16)
    for path in source.rglob("*.dcm"):
        path.unlink()
        os.link(film, path)
    walls = {1: float("inf"), 2: float("inf")}
    for turn in range(3):  # in turns, so that other work on the machine meets both
        for workers in walls:
            out = folder / f"{workers}-{turn}"
            taken = _seconds(partial(ingest, _settings(source, workers), out))
            walls[workers] = min(walls[workers], taken)
    print(
        f"ingest of {count} uncompressed films, start of the workers included: 1 worker "
        f"{walls[1]:.2f} s, 2 workers {walls[2]:.2f} s (speed-up {walls[1] / walls[2]:.2f} "
        f"on {len(os.sched_getaffinity(0))} cores)"
    )


def _memory(folder: Path, count: int) -> None:
    peaks = {}
    for number in (count, 4 * count):
        place = folder / str(number)
        _mimic_folder(place / "source", number, 64)
        peaks[number] = _peak(place)
    few, many = peaks.values()
    print(
        "peak memory of the process and its worker: "
        + ", ".join(f"{number} pictures {peak:.0f} MiB" for number, peak in peaks.items())
        + f" (ratio {many / few:.2f})"
    )


def _peak(place: Path) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--peak-of", str(place)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1]) / 1024


def _mimic_folder(root: Path, count: int, size: int) -> None:
    studies = plan_studies(count, seed=3, shares=SHARES)
    for study in studies:
        for name, content in study_files(study, size).items():
            path = root / "files" / name.removeprefix("files/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for name, content in tables(studies, size).items():
        (root / name).write_bytes(content)


def _settings(source: Path, workers: int) -> Ingest:
    options = MimicCxrOptions(root=source)
    dataset = PluginConfig(name="mimic-cxr", options=options)
    return Ingest(dataset=dataset, size=SIZE, part_size=16, workers=workers)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _best(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the quickest of several calls, after one that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


if __name__ == "__main__":
    main()
