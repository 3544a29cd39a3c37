"""Guided generation against the bytes it must move, and against transformers' own loop.

    python scripts/bench/generate.py --preset chameleon-7b --dtype bfloat16 --batches 1 8 32 64
    python scripts/bench/generate.py --hidden 2048 --layers 16 --side 32 --dtype bfloat16

Weights are random. The bound: every weight that a code needs (no embedding table, of the head the
image rows) is read once a code, and so are the keys and values of every sequence as far as it has
got, at the card's own measured copy rate (bytes read and written). Row ends ride along with the
last code of a row. transformers' ``generate`` draws ``--theirs-tokens`` tokens with guidance in
batches of ``--theirs-batch``, and is compared by milliseconds a token.
"""

import argparse
import gc
import time

import numpy as np
import torch
from harness import (
    TEXT_TOKENS,
    arguments,
    chameleon_7b,
    copy_bytes,
    describe,
    llama,
    seconds,
)  # fmt: skip
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from arra_med.generation.decoder import CodeDecoder
from arra_med.generation.sampling import Sampling
from arra_med.model.chameleon import ChameleonDrawer
from arra_med.model.layout import ImageLayout


def main() -> None:
    """Print one line a batch: seconds an image, milliseconds a token, share of the bound."""
    options = read_options()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    say(f"{describe(device)}, {options.dtype}")
    begun = time.perf_counter()
    model, layout = build(options, device, dtype)
    say(
        f"{options.preset}: {sum(p.numel() for p in model.parameters()) / 1e9:.3f} B parameters in "
        f"{time.perf_counter() - begun:.0f} s; {layout.grid[0]} × {layout.grid[1]} codes, prompts "
        f"of {options.prompt} tokens, guidance {options.guidance:g}"
    )
    rate = copy_bytes(device)
    say(f"copy rate {rate / 1e12:.3f} TB/s, bytes read and written")
    theirs = None
    if options.theirs_tokens:
        theirs = transformers_ms(model, layout, options, device)
        say(
            f"transformers' generate, batch {options.theirs_batch}: {theirs:.2f} ms a token "
            f"(over {options.theirs_tokens} tokens)"
        )
    for batch in options.batches:
        try:
            say(bench(model, layout, options, device, batch, rate, theirs))
        except torch.OutOfMemoryError:
            say(f"batch {batch:3d}: does not fit into the device's memory, skipped")
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=["llama", "chameleon-7b"], default="llama")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--top-k", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=1, help="timed batches of each size")
    parser.add_argument("--no-graphs", action="store_true", help="without CUDA graphs")
    parser.add_argument("--compiled", action="store_true", help="compile the blocks")
    parser.add_argument("--theirs-batch", type=int, default=1)
    parser.add_argument("--theirs-tokens", type=int, default=48, help="0 leaves it out")
    return parser.parse_args()


def build(
    options: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, ImageLayout]:
    """The model, made on the device and in its precision, and its layout."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            if options.preset == "chameleon-7b":
                config, layout = chameleon_7b()
                return ChameleonDrawer(config).eval(), layout
            config, layout = llama(options)
            return AutoModelForCausalLM.from_config(config).eval(), layout
    finally:
        torch.set_default_dtype(before)


def bench(
    model: PreTrainedModel,
    layout: ImageLayout,
    options: argparse.Namespace,
    device: torch.device,
    batch: int,
    rate: float,
    theirs: float | None,
) -> str:
    """One batch size, in one line."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, TEXT_TOKENS, options.prompt).tolist() for _ in range(batch)]
    noise = torch.from_numpy(rng.random((batch, layout.codes_per_image)))
    sampling = Sampling(guidance=options.guidance, top_k=options.top_k)
    decoder = CodeDecoder(
        model, layout, sampling, graphs=not options.no_graphs, compiled=options.compiled
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    decoder(prompts, noise).cpu()
    first = time.perf_counter() - begun
    say(f"batch {batch:3d}: first batch, graphs recorded, {first:.1f} s")
    times = []
    for _ in range(options.repeats):
        begun = time.perf_counter()
        decoder(prompts, noise).cpu()  # waits for the device
        times.append(time.perf_counter() - begun)
    ours = sorted(times)[len(times) // 2]
    bound = needed_bytes(model, layout, options, batch) / rate
    line = (
        f"batch {batch:3d}{', compiled' * options.compiled}: {ours / batch:.4f} s an image, "
        f"{ours / layout.codes_per_image * 1e3:.2f} ms a token; bound {bound / batch:.4f} s, "
        f"{bound / ours:.0%} of it reached"
    )
    if device.type == "cuda":
        line += f"; peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    if theirs is not None:
        token = ours / layout.codes_per_image / batch * 1e3
        line += f"; an image {theirs / options.theirs_batch / token:.1f}× as fast as transformers'"
    return line


def needed_bytes(
    model: PreTrainedModel, layout: ImageLayout, options: argparse.Namespace, batch: int
) -> float:
    """Bytes that a batch of pictures must move: see the module's text."""
    width = next(model.parameters()).element_size()
    tables = {id(model.get_input_embeddings().weight): model.get_input_embeddings().weight}
    head = model.get_output_embeddings().weight
    tables[id(head)] = head
    weights = sum(p.numel() for p in model.parameters()) - sum(t.numel() for t in tables.values())
    weights += layout.num_codes * head.shape[1]
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * size
    columns = layout.grid[1]
    done = np.arange(layout.codes_per_image)
    image = done + done // columns * len(layout.row_end_ids)
    starts = [len(layout.prompt([0] * options.prompt))]
    if options.guidance != 1:
        starts.append(len(layout.start_ids))
    cache = sum(int((start + image).sum()) for start in starts) * a_token * batch
    return float(width * (layout.codes_per_image * weights + cache))


def transformers_ms(
    model: PreTrainedModel, layout: ImageLayout, options: argparse.Namespace, device: torch.device
) -> float:
    """Milliseconds a token of transformers' ``generate`` on the same model."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, TEXT_TOKENS, (options.theirs_batch, options.prompt))
    ids = torch.tensor([layout.prompt(prompt) for prompt in prompts.tolist()], device=device)
    settings = GenerationConfig(
        do_sample=True, guidance_scale=options.guidance, top_k=options.top_k, eos_token_id=None,
        max_new_tokens=options.theirs_tokens, min_new_tokens=options.theirs_tokens,
        pad_token_id=layout.pad_id, bos_token_id=None,
    )  # fmt: skip
    taken = seconds(
        lambda: model.generate(
            ids, generation_config=settings, attention_mask=torch.ones_like(ids)
        ),
        device, 1,
    )  # fmt: skip
    return taken / options.theirs_tokens * 1e3


def say(line: str) -> None:
    """Print at once: a run may be cut off."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
