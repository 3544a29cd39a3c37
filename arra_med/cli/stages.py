"""The verbs that run one stage: settings in, a folder out, its path on stdout."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from arra_med import config
from arra_med.settings import Settings, section

if TYPE_CHECKING:
    import torch

    from arra_med.store import Shard


def run(options: argparse.Namespace) -> None:
    """Load the configuration, run the stage named by ``options.verb`` and print where it wrote."""
    settings = config.load(Settings, options.config, options.overrides)
    if options.verb == "validate":
        sys.stdout.write(config.dump(settings))
        return
    shard = getattr(options, "shard", None)
    if shard is not None:
        from arra_med.store import Shard

        result = _SHARDED[options.verb](settings, Shard.parse(shard))
    else:
        result = _STAGES[options.verb](settings)
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(f"{result}\n")


def pick_device(name: str) -> "torch.device":
    """The device called ``name``; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        RequestError: if there is no such device here.
    """
    import torch

    from arra_med.errors import RequestError

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RequestError(f"device {name!r} is not one: use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError("device is 'cuda' but this machine offers none: use 'auto' or 'cpu'")
    return device


def _ingest(settings: Settings, shard: "Shard | None" = None) -> Path:
    from arra_med.datasets.ingest import ingest

    folder = settings.paths.folder("prepared")
    ingest(section(settings.ingest, "ingest", "ingest"), folder, shard=shard)
    return folder


def _train_tokenizer(settings: Settings) -> Path:
    from arra_med.store import PreparedFolder
    from arra_med.tokenizers.train import train_tokenizer

    folder = settings.paths.folder("tokenizer")
    train_tokenizer(
        section(settings.tokenizer, "tokenizer", "train-tokenizer"),
        PreparedFolder(settings.paths.folder("prepared")),
        folder,
        seed=settings.seed,
        device=pick_device(settings.device),
    )
    return folder


def _tokenize(settings: Settings) -> Path:
    from arra_med.store import PreparedFolder
    from arra_med.tokenizers.cache import tokenize

    return tokenize(
        PreparedFolder(settings.paths.folder("prepared")),
        settings.paths.folder("tokenizer"),
        batch_size=section(settings.tokenizer, "tokenizer", "tokenize").batch_size,
        device=pick_device(settings.device),
    )


def _features(settings: Settings, shard: "Shard | None" = None) -> Path:
    from arra_med.store import PreparedFolder
    from arra_med.teachers.extract import extract_features, extract_in_processes

    chosen = section(settings.features, "features", "features")
    prepared = PreparedFolder(settings.paths.folder("prepared"))
    device = pick_device(settings.device)
    if shard is not None:
        return extract_features(chosen, prepared, device, shard=shard)
    return extract_in_processes(chosen, prepared, device)


def _train(settings: Settings) -> Path:
    from arra_med.training.train import train

    return train(settings, device=pick_device(settings.device))


def _generate(settings: Settings) -> Path:
    from arra_med.generation.generate import generate
    from arra_med.store import PreparedFolder

    folder = settings.paths.folder("generated")
    generate(
        settings.generation,
        PreparedFolder(settings.paths.folder("prepared")),
        settings.paths.folder("export"),
        folder,
        seed=settings.seed,
        device=pick_device(settings.device),
    )
    return folder


def _evaluate(settings: Settings) -> Path:
    from arra_med.eval.evaluate import evaluate
    from arra_med.eval.report import write_report

    return write_report(evaluate(settings, device=pick_device(settings.device)))


def _report(settings: Settings) -> Path:
    from arra_med.eval.report import write_report

    return write_report(settings.paths.folder("evaluation"))


_STAGES: dict[str, Callable[[Settings], Path]] = {
    "ingest": _ingest,
    "train-tokenizer": _train_tokenizer,
    "tokenize": _tokenize,
    "features": _features,
    "train": _train,
    "generate": _generate,
    "evaluate": _evaluate,
    "report": _report,
}

_SHARDED: dict[str, Callable[[Settings, "Shard"], Path]] = {
    "ingest": _ingest,
    "features": _features,
}
