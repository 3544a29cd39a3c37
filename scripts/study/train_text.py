"""A small language model that writes reports and has never seen a picture: variant `arra`'s start.

    python scripts/study/train_text.py --config scripts/study/study.yaml --prepared DIR --output DIR

The LLaMA that the recipe's ``backbone.llama`` describes, trained on the prompts of the training
split by next-token cross-entropy, saved as transformers saves it, for ``backbone.pretrained``.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
import torch
from command import exit_status
from torch import Tensor
from tqdm import trange
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from arra_med import config
from arra_med.errors import RequestError
from arra_med.model.backbones import new_llama, train_text_tokenizer
from arra_med.settings import Settings
from arra_med.store import PreparedFolder, write_atomic

_RECORD = "training.json"
_WARMUP, _DECAY, _CLIP = 100, 0.1, 1.0
_IGNORED = -100  # transformers leaves such targets out of the loss


def main() -> None:
    """Train and save; a finished folder of the same arguments is left as it is."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name in ("config", "prepared", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    llama = config.load(Settings, options.config).backbone
    if llama is None or llama.llama is None:
        raise RequestError(f"{options.config} has no backbone.llama")
    prepared = PreparedFolder(options.prepared)
    given = {
        name: getattr(options, name) for name in ("steps", "batch_size", "learning_rate", "seed")
    }
    record = {**given, "llama": config.to_tree(llama.llama), "prepared": prepared.content_hash}
    path = options.output / _RECORD
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if {name: before[name] for name in record} != record:
            raise RequestError(f"{options.output} holds a model of other settings: delete it")
        sys.stdout.write(f"{options.output}\n")
        return
    prompts = [str(row["prompt"]) for row in prepared.rows("train")]
    tokenizer = train_text_tokenizer(prompts, llama.llama.text_vocabulary)
    model = new_llama(llama.llama, len(tokenizer), 0.0, tokenizer, options.seed)
    losses = train(model, tokenizer, prompts, options)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    done = {**record, "losses": losses}
    write_atomic(path, json.dumps(done, indent=1, sort_keys=True).encode())
    sys.stdout.write(f"{options.output}: {losses[-1]:.3f} nats a token at the end\n")


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    options: argparse.Namespace,
) -> list[float]:
    """Train in place, in bf16 on a GPU.

    Returns:
        Mean cross-entropy of every 50 steps, in nats a token.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=_DECAY
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / _WARMUP)
    )
    texts = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    rng = np.random.default_rng(options.seed)
    losses, recent = [], []
    for step in trange(options.steps, desc="text"):
        rows = rng.choice(len(texts), options.batch_size)
        ids, targets = (part.to(device) for part in batch([texts[row] for row in rows]))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(input_ids=ids, attention_mask=targets != _IGNORED, labels=targets).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        recent.append(loss.detach())
        if len(recent) == 50 or step == options.steps - 1:
            losses.append(float(torch.stack(recent).mean()))
            recent = []
    return losses


def batch(texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right, and targets without the padding, ``(B, T)`` int64 each."""
    length = max(map(len, texts))
    ids = torch.zeros(len(texts), length, dtype=torch.int64)
    targets = torch.full((len(texts), length), _IGNORED)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = targets[row, : len(text)] = torch.tensor(text)
    return ids, targets


if __name__ == "__main__":
    sys.exit(exit_status(main))
