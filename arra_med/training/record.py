"""What a run's folder records of the run, and where what it names lies now."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from arra_med.config import load
from arra_med.errors import RequestError
from arra_med.settings import Paths, Settings
from arra_med.store import RUN_CONFIG

RUN_RECORD = "run.json"
"""In the run folder: what the run is; the same command resumes it, another is refused."""
LENGTH = ("epochs", "max_steps")
"""The settings of ``training`` by which alone a run may be made longer."""


class Move(NamedTuple):
    """A run's ``paths.output`` when its configuration was recorded, and now."""

    old: str
    new: str

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The move of the folder that the run lies in; ``None`` if the run was not moved with it.

        Args:
            settings: say where the run lies now.
        """
        run, output = settings.paths.folder("run"), settings.paths.output
        if not (run / RUN_CONFIG).is_file():
            return None
        there = yaml.safe_load((run / RUN_CONFIG).read_text("utf-8"))["paths"]
        run_before = there.get("run")
        before = Paths(output=Path(there["output"]), run=run_before and Path(run_before))
        try:
            inside = before.folder("run").relative_to(before.output)
        except ValueError:
            return None
        return cls(str(before.output), str(output)) if run == output / inside else None

    def __call__(self, node: Any) -> Any:  # noqa: ANN401 - JSON
        """``node`` with every path in the old folder as it is now."""
        if isinstance(node, dict):
            return {key: self(item) for key, item in node.items()}
        if isinstance(node, list):
            return [self(item) for item in node]
        if isinstance(node, str) and (node == self.old or node.startswith(f"{self.old}/")):
            return self.new + node.removeprefix(self.old)
        return node


def read_record(run: Path) -> dict[str, Any] | None:
    """What a run's folder says that the run is, as JSON; ``None`` if it holds no run.

    Raises:
        RequestError: if the record is damaged.
    """
    record = run / RUN_RECORD
    if not record.is_file():
        return None
    try:
        there: dict[str, Any] = json.loads(record.read_text("utf-8"))
    except ValueError as error:
        raise RequestError(
            f"{record} is damaged ({error}): choose another paths.run, or delete {run}, "
            "checkpoints and all"
        ) from error
    return there


def without_length(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is but for its length."""
    training = {k: v for k, v in identity["training"].items() if k not in LENGTH}
    return {**identity, "training": training}


def recorded_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """The settings that a run was trained with, with its folder where it lies now.

    Args:
        settings: say where: ``paths.run``, by default in ``paths.output``, and ``paths.export`` if
            they have one. All else in them has no effect.
        overrides: of the command line, laid over the record.

    Raises:
        FileNotFoundError: if there is no run.
        RequestError: if the overrides do not fit the record.
    """
    run, export = settings.paths.folder("run"), settings.paths.export
    record, there = run / RUN_CONFIG, read_record(run)
    if there is None or not record.is_file():
        raise FileNotFoundError(
            f"no run at {run} ({RUN_RECORD} is missing): run 'arra-med train', or name the run's "
            "paths.output"
        )
    sections, places = {}, {"run": str(run)}
    if move := Move.of(settings):
        places["output"] = move.new
        tree = yaml.safe_load(record.read_text("utf-8"))
        sections = {name: now for name, part in tree.items() if (now := move(part)) != part}
    if export is not None:
        places["export"] = str(export)
    # A run that was made longer may have been killed before its configuration was recorded anew.
    length = {name: there["training"][name] for name in LENGTH if name in there["training"]}
    return load(
        Settings,
        record,
        [
            *(f"{name}={_flow(part)}" for name, part in sections.items()),
            *(f"training.{name}={_flow(value)}" for name, value in length.items()),
            *overrides,
            *(f"paths.{name}={_flow(place)}" for name, place in places.items()),
        ],
    )


def _flow(value: Any) -> str:  # noqa: ANN401 - any YAML value
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n")
