"""The verbs that run one stage: settings in, a folder out, its path on stdout."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from arra_med import config
from arra_med.cli.rank import process_rank
from arra_med.errors import RequestError
from arra_med.settings import Settings, section

if TYPE_CHECKING:
    import torch

    from arra_med.store import Shard


def run(options: argparse.Namespace) -> None:
    """Load the configuration, run the stage named by ``options.verb`` and print where it wrote."""
    overrides = [*options.overrides, *flags_as_overrides(options)]
    settings = config.load(Settings, options.config, overrides)
    if options.verb == "validate":
        sys.stdout.write(config.dump(settings))
        return
    if options.verb == "generate" and _preview(settings, options):
        return
    if options.verb == "train" and _dry_run(settings, options):
        return
    if options.verb == "export":
        from arra_med.training.export import export
        from arra_med.training.record import recorded_settings

        settings = recorded_settings(settings, overrides)
        sys.stdout.write(f"{export(settings, checkpoint=options.checkpoint)}\n")
        return
    shard = getattr(options, "shard", None)
    if shard is not None:
        from arra_med.store import Shard

        result = _SHARDED[options.verb](settings, Shard.parse(shard))
    else:
        result = _STAGES[options.verb](settings)
    if process_rank() == 0:
        sys.stdout.write(f"{result}\n")


def _dry_run(settings: Settings, options: argparse.Namespace) -> bool:
    """Print the plan of a training run if that is asked for."""
    if not options.dry_run:
        if options.processes is not None or options.rate is not None:
            raise RequestError("--processes and --rate are the dry run's: give --dry-run too")
        return False
    processes = 1 if options.processes is None else options.processes
    if processes < 1 or (options.rate is not None and not options.rate > 0):
        raise RequestError("--processes and --rate must be positive")
    from arra_med.training.plan import plan

    sys.stdout.write(plan(settings, processes=processes, rate=options.rate))
    return True


def flags_as_overrides(options: argparse.Namespace) -> list[str]:
    """``generate``'s own flags, as the settings they stand for."""
    names = {"prompt": "prompt", "prompts": "prompts", "num": "images_per_prompt"}
    given = {name: getattr(options, flag, None) for flag, name in names.items()}
    given = {name: value for name, value in given.items() if value is not None}
    if "prompt" in given or "prompts" in given:  # in place of what the configuration says
        given = {"prompt": None, "prompts": None} | given
    return [
        f"generation.{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in given.items()
    ]


def _preview(settings: Settings, options: argparse.Namespace) -> bool:
    """Show the preview's page if it is asked for."""
    if not options.preview:
        if options.port is not None:
            raise RequestError("--port is the preview's: give --preview too, or leave it out")
        return False
    if options.shard is not None:
        raise RequestError("--preview shows a page and shares no work: leave --shard out")
    from arra_med.generation.preview import PORT, serve

    port = PORT if options.port is None else options.port
    serve(settings, device=pick_device(settings.device), port=port)
    return True


def pick_device(name: str) -> "torch.device":
    """The device called ``name``; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        RequestError: if there is no such device here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError("device is 'cuda' but this machine offers none: use 'auto' or 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RequestError(f"device is {name!r} but this machine has {torch.cuda.device_count()}")
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


def _tokenize(settings: Settings, shard: "Shard | None" = None) -> Path:
    from arra_med.store import PreparedFolder
    from arra_med.tokenizers.cache import tokenize

    return tokenize(
        PreparedFolder(settings.paths.folder("prepared")),
        settings.paths.folder("tokenizer"),
        batch_size=section(settings.tokenizer, "tokenizer", "tokenize").batch_size,
        device=pick_device(settings.device),
        shard=shard,
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


def _generate(settings: Settings, shard: "Shard | None" = None) -> Path:
    from arra_med.generation.generate import generate, generate_in_processes

    folder = generated_folder(settings)
    device = pick_device(settings.device)
    if shard is None:
        generate_in_processes(settings, folder, device=device)
    else:
        generate(settings, folder, device=device, shard=shard)
    return folder


def generated_folder(settings: Settings) -> Path:
    """Where pictures go; those of one prompt into a folder of their own for each request."""
    if settings.generation.prompt is None or settings.paths.generated is not None:
        return settings.paths.folder("generated")
    from arra_med.store import fingerprint

    asked = config.to_tree(settings.generation, compared=True)
    name = fingerprint([asked, settings.seed, str(settings.paths.folder("export"))])
    return settings.paths.output / f"generated-{name}"


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
    "tokenize": _tokenize,
    "features": _features,
    "generate": _generate,
}
