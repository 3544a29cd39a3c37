"""Guided generation against the bytes it must move, and against transformers' own loop.

    python scripts/bench/generate.py [--device cuda --dtype bfloat16 --hidden 2048 --layers 16]

The bound: every weight is read once a token, and every sample's cache once a token.
"""

import argparse

import numpy as np
import torch
from harness import copy_bytes, describe, seconds
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from arra_med.generation.sampler import draw_codes
from arra_med.model.layout import ImageLayout


def main() -> None:
    """Print seconds an image by batch size, the bound, and transformers' figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--side", type=int, default=12, help="codes along one side")
    parser.add_argument("--prompt", type=int, default=30)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    text, count = 512, options.side**2
    layout = ImageLayout(
        start_ids=(text,), end_ids=(text + 1,), first_code_id=text + 2, num_codes=options.codes,
        grid=(options.side, options.side), pad_id=0,
    )  # fmt: skip
    config = LlamaConfig(
        vocab_size=text + 2 + options.codes, hidden_size=options.hidden,
        intermediate_size=options.hidden * 43 // 16, num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).to(device, dtype).eval()
    rng = np.random.default_rng(0)
    width = torch.finfo(dtype).bits // 8
    weights = width * sum(p.numel() for p in model.parameters())
    cache = 2 * width * options.layers * options.hidden * (options.prompt + count / 2)
    rate = copy_bytes(device) / 2
    print(describe(device))
    for batch in options.batches:
        prompts = [rng.integers(3, text, options.prompt).tolist() for _ in range(batch)]
        noise = torch.from_numpy(rng.random((batch, count)))
        ours = seconds(
            lambda p=prompts, n=noise: draw_codes(
                model, layout, p, n, guidance=4.0, temperature=1.0, top_k=100
            ),
            device, 2,
        )  # fmt: skip
        ids = torch.tensor([[*prompt, text] for prompt in prompts], device=device)
        plain = GenerationConfig(
            do_sample=True, guidance_scale=4.0, top_k=100, max_new_tokens=count,
            min_new_tokens=count, pad_token_id=0, eos_token_id=None, bos_token_id=None,
        )  # fmt: skip
        theirs = seconds(
            lambda i=ids, p=plain: model.generate(
                i, generation_config=p, attention_mask=torch.ones_like(i)
            ),
            device, 2,
        )  # fmt: skip
        bound = count * (weights + 2 * batch * cache) / rate
        print(
            f"batch {batch:3d}: {ours / batch:.4f} s an image; bound {bound / batch:.4f} s "
            f"({bound / ours:.0%}); transformers' generate with guidance {theirs / batch:.4f} s "
            f"(ratio {theirs / ours:.2f})"
        )


if __name__ == "__main__":
    main()
