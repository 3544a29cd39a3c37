"""Train a teacher of the study: BiomedCLIP in small, on the pictures and prompts of a folder.

    python scripts/study/train_teacher.py --prepared DIR --output DIR --objective text

``text`` contrasts picture and prompt, ``augmentation`` two views of a picture, ``labels`` learns
the known findings: the same image tower from the same start, as many steps, the same optimiser;
without ``text`` the text tower stays random. OUTPUT
is read by the package as ``teacher: {name: biomedclip, weights: OUTPUT}`` and as the image-text
encoder ``biomedclip``. Beside the model lie ``training.json`` (arguments, pictures, losses) and
``quality.json`` (probes and retrieval on the validation split).

The folder appears when all is done. Run again with the same arguments, the command does nothing;
other arguments are refused.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from teacher_folder import Sizes, build_towers, learn_vocabulary, save_model, save_tokenizer
from teacher_quality import Rows, judge_teacher, known_labels
from teacher_training import ImageText, Labelled, TrainingData, TwoViews, train
from transformers import BertTokenizer

from arra_med.errors import RequestError, WorkError
from arra_med.images import decode_png
from arra_med.progress import Progress
from arra_med.store import PreparedFolder, difference, library_versions

LOG = logging.getLogger("train_teacher")

RECORD, QUALITY = "training.json", "quality.json"
OBJECTIVES = ("text", "augmentation", "labels")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, save and judge a teacher; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # sums in a fixed order
    try:
        run(_options(arguments))
    except (RequestError, FileNotFoundError) as error:
        LOG.error("%s", error)
        return 2
    except WorkError as error:
        LOG.error("%s", error)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    """Do what was asked, unless it is done already.

    Raises:
        FileNotFoundError: if there is no finished prepared folder.
        RequestError: if the output folder holds something else, or the pictures do not suffice.
        WorkError: if the loss is not finite.
    """
    prepared = PreparedFolder(options.prepared)
    asked = {
        name: value
        for name, value in vars(options).items()
        if name not in ("prepared", "output", "device")
    } | {"prepared": prepared.content_hash}
    output: Path = options.output
    if _finished(output, asked):
        LOG.info("%s is finished already: nothing to do", output)
        return
    sizes = Sizes(
        vision_model=options.vision_model,
        embed_dim=options.embed_dim,
        text_width=options.text_width,
        text_layers=options.text_layers,
        vocabulary=options.vocabulary,
        context_length=options.context_length,
    )
    rows = prepared.rows("train")
    prepared.rows("validate")  # known to be there before training starts
    _check(options, rows, prepared.label_names, prepared.folder)
    device = _device(options.device)

    partial = output.with_name(f".{output.name}.partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    record = _train(options, sizes, prepared, rows, partial, device)
    with torch.random.fork_rng(devices=[]):  # the text tower is built with random weights first
        quality = judge_teacher(partial, prepared, device, with_text=options.objective == "text")
    _write(partial / QUALITY, quality)
    _write(partial / RECORD, {"arguments": asked, **record})
    partial.rename(output)
    print(json.dumps(quality, indent=2))
    LOG.info("%s: %d epochs in %.0f s", output, options.epochs, record["seconds"])


def _train(
    options: argparse.Namespace,
    sizes: Sizes,
    prepared: PreparedFolder,
    rows: Rows,
    folder: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Train and save to ``folder``; what there is to say about it."""
    prompts = [row["prompt"] for row in rows]
    vocabulary = learn_vocabulary(prompts, sizes.vocabulary)
    tokenizer = save_tokenizer(folder, vocabulary)
    data, truncated = _load(prepared, rows, tokenizer, sizes.context_length, device)
    visual, text = build_towers(sizes, len(vocabulary), options.seed)
    model: ImageText | TwoViews | Labelled
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        if options.objective == "text":
            model = ImageText(visual, text, sizes.input_size)
        elif options.objective == "augmentation":
            model = TwoViews(visual, sizes.embed_dim, sizes.input_size)
        else:
            model = Labelled(visual, data.labels.shape[1], sizes.input_size)
    model.to(device)
    steps = options.epochs * (len(rows) // options.batch_size)
    LOG.info("%d pictures, %d word pieces, %d steps", len(rows), len(vocabulary), steps)
    begun = time.perf_counter()
    with Progress(steps, unit="step") as progress:
        losses = train(
            model,
            data,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            seed=options.seed,
            step_done=progress.update,
        )
    seconds = time.perf_counter() - begun
    save_model(
        folder,
        sizes,
        visual,
        text,
        logit_scale=model.logit_scale if isinstance(model, ImageText) else None,
        mean=data.mean,
        std=data.std,
    )
    return {
        "seconds": round(seconds, 1),
        "losses": losses,
        "steps": steps,
        "word_pieces": len(vocabulary),
        "truncated_prompts": truncated,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "versions": library_versions("torch", "timm", "open_clip_torch", "transformers"),
    }


def _load(
    prepared: PreparedFolder,
    rows: Rows,
    tokenizer: BertTokenizer,
    context_length: int,
    device: torch.device,
) -> tuple[TrainingData, int]:
    """The training split on the device, and how many prompts are longer than the context."""
    pngs = prepared.images([row["key"] for row in rows])
    pictures = np.stack([decode_png(pngs[row["key"]]) for row in rows])
    scaled = [pictures[..., channel] / np.float32(255) for channel in range(pictures.shape[3])]
    mean, std = ([float(np.mean(one)) for one in scaled], [float(np.std(one)) for one in scaled])
    texts = [row["prompt"] for row in rows]
    tokens = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    ids = tokenizer(
        texts, padding=True, truncation=True, max_length=context_length, return_tensors="pt"
    )["input_ids"]
    numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
    data = TrainingData(
        pixels=torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().to(device),
        ids=ids.to(device),
        prompts=torch.tensor([numbers[text] for text in texts], device=device),
        labels=torch.from_numpy(known_labels(rows, prepared.label_names)).to(device),
        mean=_three(mean),
        std=_three(std),
    )
    return data, sum(len(one) > context_length for one in tokens)


def _three(values: list[float]) -> tuple[float, float, float]:
    """For three channels: grey ones are repeated."""
    first, second, third = values * 3 if len(values) == 1 else values
    return first, second, third


def _finished(output: Path, asked: dict[str, Any]) -> bool:
    """Whether ``output`` is what was asked for.

    Raises:
        RequestError: if it is something else.
    """
    path = output / RECORD
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))["arguments"]
        if differing := difference(there, asked):
            raise RequestError(
                f"{output} holds a teacher of other arguments: {'; '.join(differing)}. Name "
                "another --output, or delete it"
            )
        return True
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise RequestError(
            f"{output} exists and is no teacher (it has no {RECORD}): name another --output"
        )
    return False


def _check(options: argparse.Namespace, rows: Rows, names: Sequence[str], folder: Path) -> None:
    """Refuse what cannot be trained.

    Raises:
        RequestError: naming the argument or what the pictures lack.
    """
    for name in ("epochs", "batch_size", "learning_rate", "embed_dim", "text_layers"):
        if getattr(options, name) <= 0:
            flag = name.replace("_", "-")
            raise RequestError(f"--{flag} must be positive, got {getattr(options, name)}")
    if not 2 <= options.batch_size <= len(rows):
        raise RequestError(
            f"--batch-size is {options.batch_size}: expected 2 to {len(rows)}, as many pictures "
            f"as the training split of {folder} has"
        )
    distinct = len({row["prompt"] for row in rows})
    if options.objective == "text" and distinct < 2:
        raise RequestError(
            f"the {len(rows)} training pictures of {folder} have {distinct} distinct prompt: "
            "there is nothing to contrast; at least 2 are needed"
        )
    if options.objective == "labels" and not (known_labels(rows, names) >= 0).any():
        raise RequestError(f"no training picture of {folder} has a known label to learn")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: there is no CUDA device; take cpu or auto")
    return device


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path, required=True, help="folder that ingest wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder of the teacher")
    parser.add_argument("--objective", choices=OBJECTIVES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--vision-model", default="vit_tiny_patch16_224", help="timm's name")
    parser.add_argument("--embed-dim", type=int, default=128)
    parser.add_argument("--text-width", type=int, default=192)
    parser.add_argument("--text-layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=4000, help="most word pieces")
    parser.add_argument("--context-length", type=int, default=96)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
