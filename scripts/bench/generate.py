"""Guided generation against the bytes it must move, and against transformers' own loop.

    python scripts/bench/generate.py [--device cuda --dtype bfloat16 --hidden 2048 --layers 16]

The bound: every weight is read once a token, and every sample's cache once a token.
"""

import numpy as np
import torch
from harness import TEXT_TOKENS, arguments, copy_bytes, describe, llama, seconds
from transformers import AutoModelForCausalLM, GenerationConfig

from arra_med.generation.sampler import draw_codes


def main() -> None:
    """Print seconds an image by batch size, the bound, and transformers' figure."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    count, text = options.side**2, TEXT_TOKENS
    config, layout = llama(options)
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
