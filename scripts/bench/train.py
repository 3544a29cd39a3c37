"""One training step with and without alignment, against the device's own matrix product.

    python scripts/bench/train_step.py [--device cuda --dtype bfloat16 --hidden 2048 --layers 16]

The bound: 6 floating-point operations a parameter and token for the blocks, and 6 for each row of
the output head at the positions that have a target.
"""

import numpy as np
import torch
from harness import TEXT_TOKENS, arguments, describe, llama, matmul_flops, seconds
from transformers import AutoModelForCausalLM

from arra_med.alignment import ArraModel
from arra_med.settings import Alignment
from arra_med.training.data import TrainingItem, collate


def main() -> None:
    """Print seconds a step, tokens a second, share of the bound and the cost of alignment."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)

    side, text = options.side, TEXT_TOKENS
    config, layout = llama(options)
    rng = np.random.default_rng(0)
    items = [
        TrainingItem(
            layout.example(
                rng.integers(3, text, options.prompt), rng.integers(0, options.codes, side**2)
            ),
            rng.normal(size=512).astype(np.float32),
        )
        for _ in range(options.batch)
    ]
    batch = {k: v.to(device) for k, v in collate(items, layout.pad_id).items()}

    def step(alignment: Alignment) -> float:
        model = ArraModel(
            AutoModelForCausalLM.from_config(config), alignment, teacher_dimension=512,
            z_weight=1e-5, seed=0,
        ).to(device, dtype)  # fmt: skip
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def once() -> None:
            model(batch)["total"].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return seconds(once, device, options.repeats)

    with torch.device("meta"):
        blocks = AutoModelForCausalLM.from_config(config).model.layers
    tokens = batch["ids"].numel()
    targets = options.batch * (side**2 + 1)
    operations = 6 * sum(p.numel() for p in blocks.parameters()) * tokens
    operations += 6 * config.vocab_size * config.hidden_size * targets
    bound = operations / matmul_flops(device, dtype)
    plain, aligned = step(Alignment(enabled=False)), step(Alignment())
    print(describe(device))
    print(f"{tokens} tokens a step; bound {bound:.4f} s (matrix products alone)")
    print(
        f"without alignment {plain:.4f} s = {tokens / plain:,.0f} tokens/s, "
        f"{bound / plain:.0%} of the bound"
    )
    print(f"with alignment    {aligned:.4f} s; ratio {aligned / plain:.3f}")


if __name__ == "__main__":
    main()
