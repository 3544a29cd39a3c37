"""Training through DeepSpeed's engine as users run it, against the device's own matrix product.

    python scripts/bench/train.py                                   # a small LLaMA on the CPU
    python scripts/bench/train.py --preset chameleon-7b --master-weights bf16 --zero-stage 0

Each of ``--cases`` is one run: ``micro × rounds``, samples a forward pass and forward passes an
optimizer step, on a batch that lies on the device. The last case runs twice more: without
alignment, and fed by the real loader from cache files (``--loader-workers``). The share of the card
counts 6 floating-point operations a parameter and token (embeddings included, attention not),
divided by the rate of the device's own square matrix product in the same run.
"""

import argparse
import functools
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import describe, matmul_flops, seconds
from synthetic import training_set
from transformers import ChameleonConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from arra_med.alignment import ArraModel, Batch
from arra_med.model.chameleon import ChameleonDrawer
from arra_med.model.layout import ImageLayout
from arra_med.settings import Alignment, Training
from arra_med.training.data import TrainingItem, collate
from arra_med.training.engine import make_engine, start_processes
from arra_med.training.loader import MicroBatches, loader_rate, step_batches
from arra_med.training.setup import parameter_counts
from arra_med.training.validation import to_device

TEACHER = 512


class Preset(NamedTuple):
    """A model and a picture size."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    side: int
    codes: int
    prompt: int


PRESETS = {
    "small": Preset(770, 128, 4, 4, 12, 256, 30),
    "llama-0.9b": Preset(33_000, 2048, 16, 16, 32, 8192, 40),
    "chameleon-2b": Preset(65_536, 4096, 8, 32, 32, 8192, 41),
    "chameleon-7b": Preset(65_536, 4096, 32, 32, 32, 8192, 41),
}


class Measured(NamedTuple):
    """One case's figures: seconds an optimizer step, peak bytes, parameters."""

    seconds: float
    memory: int
    parameters: int


def layout_of(preset: Preset) -> ImageLayout:
    """Chameleon's: size tokens before the image, a token behind each row."""
    first = preset.vocabulary - preset.codes
    return ImageLayout(
        start_ids=(first - 6, first - 5, first - 4),
        end_ids=(first - 3, first - 2),
        row_end_ids=(first - 1,) if preset.vocabulary == 65_536 else (),
        code_ids=tuple(range(first, preset.vocabulary)),
        grid=(preset.side, preset.side),
        pad_id=1,
    )


def build(preset: Preset, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A model of random weights, made where it is used."""
    sizes = {
        "vocab_size": preset.vocabulary,
        "hidden_size": preset.hidden,
        "num_hidden_layers": preset.layers,
        "num_attention_heads": preset.heads,
        "num_key_value_heads": preset.heads,
        "intermediate_size": preset.hidden * 43 // 16,
        "max_position_embeddings": 4096,
    }
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            if preset.vocabulary != 65_536:
                return LlamaForCausalLM(LlamaConfig(**sizes))
            names = {f"IMGIMG{i}Z": 4 + i for i in range(8)} | {"<image>": 8711}
            return ChameleonDrawer(ChameleonConfig(vocabulary_map=names, **sizes))
    finally:
        torch.set_default_dtype(before)


def batches(preset: Preset, micro: int, device: torch.device) -> Iterator[Batch]:
    """The same micro-batch again and again, on the device already."""
    layout, rng = layout_of(preset), np.random.default_rng(0)
    items = [
        TrainingItem(
            layout.example(rng.integers(3, 90, preset.prompt), rng.integers(0, preset.codes, n)),
            rng.normal(size=TEACHER).astype(np.float32),
        )
        for n in [layout.codes_per_image] * micro
    ]
    batch = to_device(collate(items, layout.pad_id), device)
    while True:
        yield batch


def training_of(options: argparse.Namespace, micro: int, rounds: int) -> Training:
    """The settings of one case."""
    return Training(
        batch_size=micro * rounds,
        micro_batch_size=micro,
        precision=options.precision,
        master_weights=options.master_weights,
        zero_stage=options.zero_stage,
        offload=options.offload,
        activation_checkpointing=options.activation_checkpointing,
        compile=False if options.no_compile else None,
        warmup_steps=0,
        epochs=10**4,
        prompt_dropout=0,
    )


def measure(
    options: argparse.Namespace,
    micro: int,
    rounds: int,
    device: torch.device,
    *,
    aligned: bool = True,
    stream: Iterator[Batch] | None = None,
) -> Measured:
    """Build, warm up and time one case; on a fixed batch unless a ``stream`` feeds it."""
    preset = PRESETS[options.preset]
    training = training_of(options, micro, rounds)
    dtype = torch.float32 if options.precision == "fp32" else torch.bfloat16
    model = ArraModel(
        build(preset, device, dtype),
        Alignment(enabled=aligned),
        teacher_dimension=TEACHER,
        z_weight=1e-5,
        seed=0,
    )
    parameters = parameter_counts(model.backbone)[1]
    engine = make_engine(model, training, device=device, total_steps=10**6, world_size=1)
    stream = batches(preset, micro, device) if stream is None else stream
    engine.train()
    step = functools.partial(optimizer_step, engine, stream, rounds)
    step()  # compilation
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = seconds(step, device, options.repeats)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    engine.destroy()
    return Measured(took, memory, parameters)


def measure_loaded(
    options: argparse.Namespace, micro: int, rounds: int, device: torch.device
) -> tuple[Measured, float]:
    """:func:`measure`, every batch read from cache files by the loader's processes.

    Returns:
        That, and the samples a second that the loader makes when nothing waits for it.
    """
    preset = PRESETS[options.preset]
    training = training_of(options, micro, rounds)
    with training_set(
        layout_of(preset), training, prompt=preset.prompt, teacher=TEACHER
    ) as samples:
        ready = step_batches(
            MicroBatches(samples, rank=0, world_size=1), 0, options.repeats + 2,
            workers=options.loader_workers, pin_memory=device.type == "cuda",
        )  # fmt: skip
        stream = (to_device(batch, device) for batch in ready)
        found = measure(options, micro, rounds, device, stream=stream)
        pinned, workers = device.type == "cuda", options.loader_workers
        return found, loader_rate(samples, workers=workers, pin_memory=pinned, steps=8)


def optimizer_step(engine: Any, stream: Iterator[Batch], rounds: int) -> None:  # noqa: ANN401
    """What the trainer does in a step."""
    for _ in range(rounds):
        engine.backward(engine(next(stream))["total"])
        engine.step()


def release(device: torch.device) -> None:
    """Give the last case's memory back."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    """Print tokens a second, share of the card, memory, and what alignment costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--cases", nargs="+", default=["24x1"], metavar="MICROxROUNDS")
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--master-weights", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--zero-stage", type=int, default=1)
    parser.add_argument("--offload", default="none")
    parser.add_argument("--activation-checkpointing", type=int, default=0)
    parser.add_argument("--loader-workers", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    start_processes(device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    preset = PRESETS[options.preset]
    dtype = torch.float32 if options.precision == "fp32" else torch.bfloat16
    rate = matmul_flops(device, dtype)
    tokens = layout_of(preset).sequence_length(preset.prompt)
    sys.stdout.write(
        f"{describe(device)}\nbound: matrix product {rate / 1e12:.4g} TFLOP/s; {options.preset}, "
        f"{tokens}-token sequences, master weights {options.master_weights}, ZeRO "
        f"{options.zero_stage}, offload {options.offload}\n"
    )
    cases = [tuple(map(int, case.split("x"))) for case in options.cases]
    for micro, rounds in cases:
        try:
            found = measure(options, micro, rounds, device)
        except torch.OutOfMemoryError:
            sys.stdout.write(f"{micro} × {rounds}: out of memory\n")
            continue
        finally:
            release(device)
        per_second = micro * rounds * tokens / found.seconds
        share = 6 * found.parameters * per_second / rate
        sys.stdout.write(
            f"{micro} × {rounds}: {found.seconds:.4f} s a step, {per_second:,.0f} tokens/s, "
            f"{share:.1%} of the card, {found.memory / 2**30:.1f} GiB, "
            f"{found.parameters / 1e9:.3f} B parameters\n"
        )
        sys.stdout.flush()
    plain = measure(options, *cases[-1], device, aligned=False)
    release(device)
    loaded, alone = measure_loaded(options, *cases[-1], device)
    memory = f", {found.memory / plain.memory - 1:+.2%} memory" if plain.memory else ""
    sys.stdout.write(
        f"without alignment {plain.seconds:.4f} s, {plain.memory / 2**30:.1f} GiB; alignment costs "
        f"{found.seconds / plain.seconds - 1:+.2%} time{memory}\n"
        f"fed by the loader ({options.loader_workers} processes) {loaded.seconds:.4f} s: "
        f"{found.seconds / loaded.seconds:.1%} of the rate on a fixed batch; alone it makes "
        f"{alone * tokens:,.0f} tokens/s\n"
    )


if __name__ == "__main__":
    main()
