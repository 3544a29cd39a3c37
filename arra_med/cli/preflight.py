"""The verb ``preflight``: are the picture files in order, before any network is loaded?"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arra_med.errors import RequestError, WorkError

if TYPE_CHECKING:
    from arra_med.eval.picture_facts import PictureFacts
    from arra_med.eval.preflight import FolderCheck

_TEXT = "check the files of a configuration's pictures, or of any folders of pictures"
_EPILOG = """\
Give one configuration, with settings to override, or folders: prepared, generated, or of plain
picture files. Copies of training pictures are looked for where a prepared folder is among them.
Exit codes: 0 in order, 1 problems above the limit, 2 the request is wrong.
"""
_YAML = (".yaml", ".yml")
_COLUMNS = ("folder", "pictures", "size", "mode", "unreadable", "constant", "groups of equal ones")


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:  # noqa: ANN401 - argparse's private class
    """Add the verb."""
    verb = verbs.add_parser(
        "preflight",
        help=_TEXT,
        description=_TEXT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    verb.add_argument("what", nargs="+", metavar="CONFIG.yaml [key=value …] | FOLDER …")
    verb.add_argument("--json", action="store_true", help="everything, for programs")
    verb.add_argument(
        "--limit",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="share of a folder's pictures that may have a problem (%(default)s); copies of "
        "training pictures and pictures in several splits are never let through",
    )
    verb.add_argument("--workers", type=int, help="processes that decode; by default one a core")
    verb.set_defaults(overrides=[])


def run(options: argparse.Namespace) -> None:
    """Check, and print a table (or JSON) on stdout.

    Raises:
        FileNotFoundError: if a folder is not there.
        RequestError: if the request is wrong.
        WorkError: if a problem affects more pictures than the limit allows.
    """
    if not 0 <= options.limit < 1:
        raise RequestError(f"--limit is a share of the pictures, in [0, 1): got {options.limit}")
    if options.workers is not None and options.workers < 0:
        raise RequestError(f"--workers must not be negative, got {options.workers}")
    words: list[str] = [*options.what, *options.overrides]
    first, rest = words[0], words[1:]
    if first.endswith(_YAML) and not Path(first).is_dir():
        checks, absent = _of_configuration(Path(first), rest, options.workers)
    else:
        checks, absent = _of_folders([Path(first), *map(Path, rest)], options.workers), []
    from arra_med.eval.preflight import preflight_section

    failed = {check.name: check.failures(options.limit) for check in checks}
    if options.json:
        told = preflight_section(checks) | {
            "limit": options.limit,
            "not_there": absent,
            "failures": {name: [one.words for one in found] for name, found in failed.items()},
        }
        sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=1) + "\n")
    else:
        sys.stdout.write(_as_text(checks, absent))
    bad = [name for name, found in failed.items() if found]
    if bad:
        raise WorkError(
            f"problems above the limit of {options.limit:.2%}, or that no limit lets through, in: "
            f"{', '.join(bad)}"
        )


def _of_configuration(
    path: Path, overrides: Sequence[str], workers: int | None
) -> tuple[list["FolderCheck"], list[str]]:
    """Checks of a configuration's folders, its own pictures first; those not there yet."""
    from arra_med import config
    from arra_med.eval import picture_facts, preflight
    from arra_med.eval.cohort import check_rows
    from arra_med.eval.plain_folder import open_other
    from arra_med.settings import OtherPictures, Settings
    from arra_med.store import PreparedFolder

    settings = config.load(Settings, path, overrides)
    prepared = PreparedFolder(settings.paths.folder("prepared"))
    evaluation = settings.evaluation
    ours = [OtherPictures(name="generated", folder=settings.paths.folder("generated"))]
    others: Sequence[OtherPictures] = ()
    if evaluation is not None:
        others = evaluation.others
        encoding, delimiter = evaluation.encoding, evaluation.delimiter
        ours = [replace(ours[0], encoding=encoding, delimiter=delimiter)]
        if evaluation.swapped is not None:
            ours.append(OtherPictures(name="swapped", folder=evaluation.swapped))
    there = [one for one in ours if one.folder.is_dir()]
    offered = {one.name: open_other(one, prepared) for one in [*there, *others]}
    for name, pictures in offered.items():
        if name != "swapped":  # whose prompts are others on purpose
            check_rows(prepared, pictures)
    real = picture_facts.prepared_facts(prepared, workers=workers)
    checks = [
        preflight.check_offered(
            name,
            picture_facts.offered_facts(pictures, workers=workers),
            prepared,
            real,
            any_kind=not pictures.unchanged,
        )
        for name, pictures in offered.items()
    ]
    absent = [one.name for one in ours if one not in there]
    return [*checks, preflight.check_prepared(prepared, real)], absent


def _of_folders(folders: Sequence[Path], workers: int | None) -> list["FolderCheck"]:
    from arra_med.eval import picture_facts, preflight
    from arra_med.store import PreparedFolder

    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder at {folder}")
    kinds = {folder: _kind(folder) for folder in dict.fromkeys(folders)}
    prepared, real = None, None
    checks = []
    for folder in sorted(kinds, key=lambda folder: kinds[folder] != "prepared"):
        if kinds[folder] == "prepared":
            held = PreparedFolder(folder)
            facts = picture_facts.prepared_facts(held, workers=workers)
            checks.append(preflight.check_prepared(held, facts, name=str(folder)))
            if prepared is None:
                prepared, real = held, facts
            continue
        any_kind = kinds[folder] != "generated"
        facts = _facts(folder, kinds[folder], workers)
        checks.append(
            preflight.check_offered(str(folder), facts, prepared, real, any_kind=any_kind)
        )
    return sorted(checks, key=lambda check: check.splits is not None)


def _facts(folder: Path, kind: str | None, workers: int | None) -> list["PictureFacts"]:
    from arra_med.eval import picture_facts
    from arra_med.generation.folder import GeneratedFolder

    if kind == "generated":
        return picture_facts.offered_facts(GeneratedFolder(folder), workers=workers)
    if kind is None:
        return picture_facts.plain_facts(folder, workers=workers)
    raise RequestError(
        f"{folder} holds '{kind}', no pictures: expected a prepared or generated folder, or one of "
        "picture files"
    )


def _kind(folder: Path) -> str | None:
    """What a folder of ours holds; ``None`` for any other."""
    from arra_med.store import MANIFEST

    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["kind"])
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is not a manifest of ours: {error!r}") from error


def _as_text(checks: Sequence["FolderCheck"], absent: Sequence[str]) -> str:
    rows = [list(_COLUMNS)]
    for check in checks:
        told = check.to_json()
        counts = [told["num_unreadable"], told["num_constant"], told["num_duplicates"]]
        kinds = [_listed(told["sizes"]), _listed(told["modes"])]
        rows.append([check.name, f"{told['pictures']:,}", *kinds, *(f"{n:,}" for n in counts)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, 2, 3) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += [f"{name}: not there yet" for name in absent]
    for check in checks:
        problems = check.problems()
        lines += [f"\n{check.name}:"] if problems else []
        lines += [f"  {problem.words}" for problem in problems]
        lines += [f"    {line}" for line in _examples(check)]
    if not any(check.problems() for check in checks):
        lines.append("No problem was found.")
    if all(check.training is None for check in checks):
        why = "not all folders are there yet" if absent else "name a prepared folder too"
        lines.append(f"Copies of training pictures were not looked for: {why}.")
    return "\n".join(lines) + "\n"


def _examples(check: "FolderCheck") -> list[str]:
    """The first pictures of each problem, so that one knows where to look."""
    told = check.to_json()
    lines = [f"unreadable: {one['file']} ({one['reason']})" for one in told["unreadable"][:3]]
    lines += [f"constant: {name}" for name in told["constant"][:3]]
    lines += [f"equal: {', '.join(group[:4])}" for group in told["duplicates"][:3]]
    lines += [f"copy: {name} of training picture {key}" for name, key in check.copies()[:3]]
    return lines


def _listed(counts: dict[str, int]) -> str:
    """``64 × 64``, or several with their counts."""
    if len(counts) <= 1:
        return next(iter(counts), "none")
    shown = [f"{name}: {n:,}" for name, n in list(counts.items())[:3]]
    return ", ".join(shown) + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")
