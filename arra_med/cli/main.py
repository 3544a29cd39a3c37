"""``arra-med <verb>``: one verb a stage, each reading one YAML.

Exit codes: 0 done, 1 the work failed, 2 the request is wrong, 75 a signal stopped training and the
same command resumes it. Results go to stdout, logs and progress bars to stderr. Nothing heavy is
imported before a verb needs it.
"""

import argparse
import contextlib
import errno
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from arra_med._version import __version__
from arra_med.cli import assets, preflight
from arra_med.cli.rank import process_rank
from arra_med.errors import (
    EXIT_INTERRUPTED,
    EXIT_PREEMPTED,
    EXIT_TERMINATED,
    INTERRUPTED,
    PreemptedError,
    RequestError,
    WorkError,
    did_you_mean,
)
from arra_med.registry import REGISTRIES

logger = logging.getLogger("arra_med")

STAGES: dict[str, str] = {
    "ingest": "source images and reports to a prepared folder",
    "train-tokenizer": "train the image tokenizer on the prepared pictures",
    "tokenize": "turn the prepared pictures into codes",
    "features": "cache the teacher's vectors of the prepared pictures",
    "train": "adapt the language model, with ARRA's alignment, under DeepSpeed",
    "export": "write the model of a training checkpoint, without a GPU",
    "generate": "draw pictures for a prompt, a file of prompts or a split's prompts",
    "evaluate": "measure the pictures and write the report",
    "report": "write the report again from an evaluation's results",
    "validate": "check a configuration and print it resolved",
}
"""Verbs that read a configuration."""
SHARDED = ("ingest", "tokenize", "features", "generate")
"""Those whose work several jobs can share."""

_EPILOG = """\
A configuration is one YAML file; settings are overridden as key=value:
  arra-med train run.yaml training.epochs=2 paths.output=work/try
Several processes: torchrun --nproc_per_node=2 -m arra_med train run.yaml
Several jobs: arra-med ingest run.yaml --shard 0/4 (… 3/4), then arra-med ingest run.yaml
Exit codes: 0 done, 1 the work failed, 2 the request is wrong, 75 stopped by a signal (train),
130 ended by Ctrl-C, 143 by SIGTERM
"""
_TRAIN_SIGNALS = """\
SIGTERM, SIGUSR1 and SIGUSR2, to any rank, stop training at the next step with a checkpoint and exit
code 75: run the same command again to go on. A second signal, 3 seconds later or more, ends at
once. torchrun hands SIGTERM on, kills after 30 seconds, and itself ends with code 1.
"""
_EXPORT_SETTINGS = """\
paths.output (or paths.run) says which run, paths.export where the model goes. All other settings
are those that the run was trained with, as its folder records them: none need be repeated.
"""
_EPILOGS = {"train": _TRAIN_SIGNALS, "export": _EXPORT_SETTINGS}


class _Parser(argparse.ArgumentParser):
    """Suggests the nearest verb or action for a mistyped one."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401 - argparse's
        if action.choices is not None and value not in action.choices:
            nearest = did_you_mean(value, action.choices) or "."
            known = ", ".join(action.choices)
            raise argparse.ArgumentError(action, f"{value!r} is unknown{nearest} Known: {known}.")


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser: argparse.ArgumentParser = _Parser(
        prog="arra-med",
        description="Language models that draw medical images, and how well they draw.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"arra-med {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true", help="warnings and errors only")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="verb", metavar="<verb>", required=True)
    for name, text in STAGES.items():
        verb = verbs.add_parser(
            name,
            help=text,
            description=text,
            parents=[common],
            epilog=_EPILOGS.get(name),
        )
        verb.add_argument("config", type=Path, metavar="CONFIG.yaml", help="the configuration")
        verb.add_argument(  # with a default, argparse does not call it required
            "overrides", nargs="*", default=[], metavar="key=value", help="settings to override"
        )
        if name in SHARDED:
            verb.add_argument(
                "--shard",
                metavar="i/n",
                help="do only the i-th of n equal shares (i from 0); a run without it joins them",
            )
        if name == "train":
            _add_train_options(verb)
        if name == "export":
            verb.add_argument(
                "--checkpoint",
                metavar="NAME",
                help="step-00000100, or best (lowest validation loss); by default the newest",
            )
        if name == "generate":
            _add_generate_options(verb)
    demo = verbs.add_parser(
        "demo", help="draw phantoms and run every stage on them", parents=[common]
    )
    demo.add_argument("--output", type=Path, default=Path("work/demo"), help="(%(default)s)")
    demo.add_argument("overrides", nargs="*", metavar="key=value", help="settings to override")
    plugins = verbs.add_parser("list", help="list the plug-ins", parents=[common])
    plugins.add_argument(
        "kind", nargs="?", help=f"one of {', '.join(REGISTRIES)}; all of them if not given"
    )
    assets.add_parser(verbs, common)
    preflight.add_parser(verbs, common)
    write = verbs.add_parser(
        "export-conversations",
        help="write a prepared folder as the JSON that ARRA's authors use",
        parents=[common],
    )
    write.add_argument("prepared", type=Path, help="a prepared folder")
    write.add_argument("output", type=Path, help="folder for the JSON files and pictures")
    info = verbs.add_parser(
        "info", help="say what a folder of ours or a model is", parents=[common]
    )
    info.add_argument("folder", type=Path)
    info.add_argument("--json", action="store_true", help="everything, for programs")
    info.add_argument("--verify", action="store_true", help="compare every file with its hash")
    return parser


def _add_train_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--dry-run", action="store_true", help="check everything and say what the run would be"
    )
    verb.add_argument("--processes", type=int, metavar="N", help="of the dry run's plan (1)")
    verb.add_argument(
        "--rate", type=float, metavar="TOKENS", help="tokens a second, for the dry run's hours"
    )


def _add_generate_options(verb: argparse.ArgumentParser) -> None:
    what = verb.add_mutually_exclusive_group()
    what.add_argument("--prompt", metavar="TEXT", help="draw this prompt")
    what.add_argument(
        "--prompts", metavar="FILE", help="a .txt file (one prompt a line) or a table of prompts"
    )
    what.add_argument(
        "--preview", action="store_true", help="a page on this machine to type prompts into"
    )
    verb.add_argument("--num", type=int, metavar="N", help="pictures of each prompt")
    verb.add_argument(
        "--port",
        type=int,
        help="of the preview's page; 0 for a free one (8765 by default)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse(arguments)
    level = logging.WARNING if options.quiet else logging.INFO
    if process_rank() > 0:
        level = logging.ERROR  # rank 0 speaks for all
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logger.setLevel(level)
    logging.getLogger("DeepSpeed").addFilter(_off_stdout)
    run = _verb(options.verb)
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, _interrupt)  # as Slurm ends a job
    try:
        run(options)
    except KeyboardInterrupt as stop:
        code = EXIT_TERMINATED if isinstance(stop, _TerminatedError) else EXIT_INTERRUPTED
        return _fail(INTERRUPTED, code, debug=False)
    except PreemptedError as stop:
        logger.warning("%s", stop)
        return EXIT_PREEMPTED
    except RequestError as error:
        return _fail(str(error), 2, debug=options.debug)
    except WorkError as error:
        return _fail(str(error), 1, debug=options.debug)
    except OSError as error:
        return _fail(*_of_the_system(error), debug=options.debug)
    except Exception as error:  # noqa: BLE001 - the last boundary: every failure ends in one line
        return _fail(f"{type(error).__name__}: {error}", 1, debug=options.debug)
    return 0


_WRONG_PATH = (
    errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS
)  # fmt: skip


def _of_the_system(error: OSError) -> tuple[str, int]:
    """Message and exit code of an error that opening, reading or writing a file ended with."""
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return str(error), 2  # ours, in words
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room and run the same command again", 1
    if error.errno in _WRONG_PATH:
        return f"cannot use this path: {error}", 2
    return str(error), 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; settings to override may also stand behind ``--shard``."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    strange = [word for word in rest if word.startswith("-") or "=" not in word]
    if strange or (rest and not hasattr(options, "overrides")):
        how = "; a setting is overridden as key=value" if hasattr(options, "overrides") else ""
        parser.error(
            f"unrecognized arguments: {' '.join(strange or rest)}{how}; "
            f"'arra-med {options.verb} --help' lists the options"
        )
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _off_stdout(record: logging.LogRecord) -> bool:
    """A filter that has its logger write to stderr: DeepSpeed's, on import, writes to stdout.

    DeepSpeed is imported by libraries too, when they like, and is not imported here for this.
    """
    for handler in logging.getLogger(record.name).handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    return True


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, which ends a verb as Ctrl-C does."""


def _interrupt(signal_number: int, frame: object) -> None:
    raise _TerminatedError


def _verb(name: str) -> Callable[[argparse.Namespace], None]:
    if name in STAGES:
        from arra_med.cli import stages

        return stages.run
    if name == "demo":
        from arra_med.cli import demo

        return demo.run
    from arra_med.cli import inspect

    return {
        "assets": assets.run,
        "preflight": preflight.run,
        "list": inspect.list_plugins,
        "info": inspect.show_folder,
        "export-conversations": inspect.export_conversations,
    }[name]


def _fail(message: str, code: int, *, debug: bool) -> int:
    if sys.stderr.isatty():
        sys.stderr.write("\n")  # a progress bar may stand on this line
    logger.error("error: %s", message, exc_info=debug)
    if not debug and code == 1:
        logger.error("(--debug shows the traceback)")
    return code
