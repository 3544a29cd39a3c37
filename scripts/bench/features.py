"""The features stage against its two bounds and against one image at a time.

    python scripts/bench/features.py [--device cuda --precision bf16 fp32 --model vit-b-16]

It draws its own films, saves a random model of BiomedCLIP's architecture as open_clip publishes
it, and prints, in one run:

1. the decode bound: every core turns PNG bytes into the encoder's input, nothing else happens;
2. the forward bound: the same encoder on a batch that is on the device already;
3. the features stage as users run it, from prepared folder to finished cache; the rate leaves out
   the start (model, worker processes, the first batches they hold ready), printed beside it;
4. the authors' way: open one file, transform, forward in float32, save one file.

Goals on a GPU, with ViT-B/16 and 512 px PNG: 3 is at least 85 % of the lower bound, and 20 times 4.
On a CPU the stage takes one picture at a time, like 4, so that its cache is the same to the byte
whatever the batch size; set OMP_NUM_THREADS=1 where other work shares the cores.
"""

import argparse
import itertools
import json
import logging
import multiprocessing
import queue
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import torch
from harness import describe
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertTokenizer

from arra_med.config import PluginConfig
from arra_med.datasets.phantom.chest import draw_chest
from arra_med.datasets.phantom.cxr_plan import plan_studies
from arra_med.images import encode_png
from arra_med.parallel import available_cores, map_in_order, process_context
from arra_med.picture_loader import Batch, Transform, to_picture
from arra_med.schema import CHEXPERT_LABELS, Sample, images_schema, sample_row, samples_schema
from arra_med.settings import Features
from arra_med.store import PartWriter, PreparedFolder, TableStream
from arra_med.teachers import extract
from arra_med.teachers.base import Teacher, aggregate
from arra_med.teachers.biomedclip import BiomedClipOptions
from arra_med.teachers.cache import teacher_model

MODELS = {"tiny": "vit_tiny_patch16_224", "vit-b-16": "vit_base_patch16_224"}
CHUNK_ROWS, PART_SIZE = 64, 1024  # as ingest writes them
SHIFTS = 64  # pictures made of one drawn film
UNKNOWN = dict.fromkeys(CHEXPERT_LABELS)
SECONDS = 2.5  # that a bound is measured


def main() -> None:
    """Print the four rates and their ratios."""
    options = _options()
    device = torch.device(options.device)
    cores = available_cores()
    print(f"{describe(device)}, {cores} cores; {options.model}, {options.size} px", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        teacher = PluginConfig(
            name="biomedclip", options=BiomedClipOptions(weights=_save_model(folder, options.model))
        )
        pngs = _pictures(options.films, min(options.images, SHIFTS * options.films), options.size)
        prepared = _save_prepared(folder / "prepared", pngs, options.images, options.size)
        kib = sum(map(len, pngs)) / len(pngs) / 1024
        print(f"{options.images} pictures, {kib:.0f} KiB each as PNG", flush=True)

        settings = Features(teacher=teacher, batch_size=options.batch_size, workers=options.workers)
        model = teacher_model(settings).to(device)
        decoding = _decode_bound(pngs, model.transform, cores)
        print(
            f"decode bound      {decoding:9.1f} images/s, {cores} cores "
            f"({1e3 * cores / decoding:.2f} ms an image and core)",
            flush=True,
        )
        alone = _one_at_a_time(model, pngs, folder / "alone", device, options.alone)
        print(f"one at a time     {alone:9.1f} images/s, fp32", flush=True)
        for precision in options.precision:
            chosen = replace(settings, precision=precision)
            forward = _forward_bound(model, pngs, chosen, device)
            print(f"forward bound     {forward:9.1f} images/s, {precision}", flush=True)
            rate, start = _stage(chosen, prepared, device)
            share, ratio = rate / min(forward, decoding), rate / alone
            goals = (" (goal 85 %)", " (goal 20)") if device.type == "cuda" else ("", "")
            print(
                f"features stage    {rate:9.1f} images/s, {precision}, after a start of "
                f"{start:.1f} s: {share:.0%} of the lower bound{goals[0]}, {ratio:.1f} times one "
                f"at a time{goals[1]}",
                flush=True,
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--images", type=int, help="pictures in the prepared folder")
    parser.add_argument("--films", type=int, help="of which this many are drawn, others shifted")
    parser.add_argument("--alone", type=int, help="pictures one at a time")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, help="by default what the stage takes")
    options = parser.parse_args()
    gpu = torch.device(options.device).type == "cuda"
    options.precision = options.precision or (["bf16", "fp32"] if gpu else ["fp32"])
    options.model = options.model or ("vit-b-16" if gpu else "tiny")
    options.images = options.images or (32768 if gpu else 256)
    options.films = options.films or (32 if gpu else 3)
    options.alone = options.alone or (200 if gpu else 40)
    return options


def _save_model(folder: Path, name: str) -> Path:
    """Random weights as BiomedCLIP's repository holds them; of its text tower only a stub."""
    target, text = folder / "biomedclip", folder / "text"
    target.mkdir()
    BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        vocab_size=8, max_position_embeddings=16,
    ).save_pretrained(text)  # fmt: skip
    words = folder / "vocab.txt"
    words.write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")) + "\n")
    BertTokenizer(str(words)).save_pretrained(text)
    config = {
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": MODELS[name], "timm_model_pretrained": False, "timm_pool": "",
            "timm_proj": "linear", "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": str(text), "hf_tokenizer_name": str(text), "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 16,
        },
    }  # fmt: skip
    (target / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    logging.disable(logging.WARNING)  # open_clip says that there are no weights yet
    model = open_clip.create_model(f"local-dir:{target}", pretrained_text=False)
    logging.disable(logging.NOTSET)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, target / "open_clip_model.safetensors")
    return target


def _pictures(films: int, number: int, size: int) -> list[bytes]:
    """PNG bytes of ``number`` different pictures that look like films."""
    drawn = map_in_order(
        partial(_film_and_shifts, size=size, number=-(-number // films)),
        range(films),
        workers=available_cores(),
        ahead=2,
    )
    return list(itertools.islice(itertools.chain.from_iterable(drawn), number))


def _film_and_shifts(index: int, *, size: int, number: int) -> list[bytes]:
    study = plan_studies(100, seed=0, shares=(0.8, 0.1, 0.1))[index % 100]
    rng = np.random.default_rng(index)
    film = draw_chest(replace(study.spec, view=study.pictures[0].view), size, rng)
    levels = np.rint(255 * film).astype(np.uint8)
    shifts = [rng.integers(-size // 16, size // 16, 2) for _ in range(number)]
    return [encode_png(np.roll(levels, shift, axis=(0, 1))) for shift in shifts]


def _save_prepared(folder: Path, pngs: Sequence[bytes], number: int, size: int) -> PreparedFolder:
    """A prepared folder of ``number`` pictures, the given ones over and over."""
    keys = [f"p{index}/x" for index in range(number)]
    starts = range(0, number, PART_SIZE)
    schema = images_schema()

    def chunks(start: int) -> Iterator[pa.Table]:
        stop = min(start + PART_SIZE, number)
        for first in range(start, stop, CHUNK_ROWS):
            rows = range(first, min(first + CHUNK_ROWS, stop))
            yield pa.Table.from_pylist(
                [
                    {"key": keys[row], "image": {"bytes": pngs[row % len(pngs)], "path": None}}
                    for row in rows
                ],
                schema,
            )

    config = {"dataset": {"name": "bench"}, "size": size, "part_size": PART_SIZE}
    with PartWriter(folder, kind="prepared", config=config) as writer:
        for part, start in enumerate(starts):
            table = TableStream(schema, chunks(start), packed=False)
            writer.write_part(part, {f"images/part-{part:05d}.parquet": table}, {})
        rows = [sample_row(_sample(key), sha256="0" * 64, width=size, height=size) for key in keys]
        samples = pa.Table.from_pylist(rows, samples_schema(CHEXPERT_LABELS))
        files = {"samples.parquet": samples, "excluded.jsonl": b""}
        writer.finish(len(starts), files, summary={"channels": 1})
    return PreparedFolder(folder)


def _sample(key: str) -> Sample:
    patient = key.partition("/")[0]
    return Sample(
        key=key, patient_id=patient, study_id=patient, split="train", view="PA", prompt="a film",
        prompt_source="impression", labels=UNKNOWN, modality="cxr", source=f"{patient}.png",
    )  # fmt: skip


def _decode_bound(pngs: Sequence[bytes], transform: Transform, cores: int) -> float:
    """Pictures a second of all cores, each with its own pictures in memory."""
    context = process_context("arra_med.picture_loader", type(transform).__module__)
    barrier, rates = context.Barrier(cores), context.Queue()
    processes = [
        context.Process(target=_decode, args=(pngs[:256], transform, barrier, rates), daemon=True)
        for _ in range(cores)
    ]
    for process in processes:
        process.start()
    try:
        return float(sum(rates.get(timeout=300) for _ in processes))
    except queue.Empty:
        raise SystemExit("a decoding process ended early") from None


def _decode(
    pngs: Sequence[bytes],
    transform: Transform,
    barrier: Barrier,
    rates: "multiprocessing.Queue[float]",
) -> None:
    torch.set_num_threads(1)
    transform(to_picture(pngs[0]))
    barrier.wait()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() < begun + SECONDS:
        transform(to_picture(pngs[done % len(pngs)]))
        done += 1
    rates.put(done / (time.perf_counter() - begun))


@torch.inference_mode()
def _forward_bound(
    model: Teacher, pngs: Sequence[bytes], settings: Features, device: torch.device
) -> float:
    """Pictures a second of the encoder on a batch that is on the device."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.precision)
    transformed = [model.transform(to_picture(png)) for png in pngs[: settings.batch_size]]
    batch = torch.stack((transformed * settings.batch_size)[: settings.batch_size]).to(device)

    def encode(times: int) -> None:
        for _ in range(times):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                aggregate(model(batch), settings.aggregation)
        if device.type == "cuda":
            torch.cuda.synchronize()

    encode(3 if device.type == "cuda" else 1)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() < begun + SECONDS:
        turns = 20 if device.type == "cuda" else 1
        encode(turns)
        done += turns * len(batch)
    return done / (time.perf_counter() - begun)


def _stage(
    settings: Features, prepared: PreparedFolder, device: torch.device
) -> tuple[float, float]:
    """Pictures a second of the stage, and the seconds before they are counted."""
    arrivals: list[tuple[float, int]] = []
    load = extract.load_pictures

    def watched(*args: object, **named: object) -> Iterator[Batch]:
        for batch in load(*args, **named):
            arrivals.append((time.perf_counter(), len(batch.keys)))
            yield batch

    workers = extract._num_workers(settings, device)
    ready = 2 * workers or 1  # batches that the workers held ready before the first was taken
    begun = time.perf_counter()
    extract.load_pictures = watched
    try:
        extract.extract_features(settings, prepared, device)
    finally:
        extract.load_pictures = load
    ended = time.perf_counter()
    if len(arrivals) < ready + 2:
        raise SystemExit(f"{len(arrivals)} batches for {workers} workers: take more --images")
    # the batch that starts the clock was decoded before; without workers its pass comes after
    counted = sum(size for _, size in arrivals[ready + (workers > 0) :])
    return counted / (ended - arrivals[ready][0]), arrivals[ready][0] - begun


@torch.inference_mode()
def _one_at_a_time(
    model: Teacher, pngs: Sequence[bytes], folder: Path, device: torch.device, number: int
) -> float:
    """Pictures a second of the authors' loop."""
    folder.mkdir()
    files = []
    for index in range(number):
        files.append(folder / f"{index}.png")
        files[-1].write_bytes(pngs[index % len(pngs)])
    transform: Callable[[Image.Image], Tensor] = model.transform

    def encode(path: Path) -> None:
        pixels = transform(Image.open(path)).unsqueeze(0).to(device)
        vector = model(pixels)["cls"].cpu()
        torch.save(vector, path.with_suffix(".pt"))

    for path in files[:3]:
        encode(path)
    begun = time.perf_counter()
    for path in files:
        encode(path)
    return number / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
