"""The report's panels: pictures as data URIs, and what the judge says of them."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arra_med.datasets.privacy.png_chunks import pixels_only
from arra_med.errors import RequestError
from arra_med.eval.explanations import Results, primary_judge
from arra_med.eval.formatting import finite, significant

PANEL_RULES = {
    "random": (
        "Drawn at random",
        "Typical pictures: drawn with the seed in the protocol, not chosen by anybody.",
    ),
    "worst": (
        "Failure gallery: worst by the judge",
        "The pictures whose judged findings are farthest from what was asked.",
    ),
    "best": (
        "Best by the judge",
        "The pictures whose judged findings are nearest to what was asked: not typical.",
    ),
    "closest": (
        "Closest to training",
        "The pictures nearest to a training picture, each beside that training picture: do two "
        "show one person?",
    ),
}
"""Rule → title and meaning, in the order in which the groups are shown."""
CLOSEST = "closest"
SHOWN_FROM = 0.5
"""A probability that is listed under a panel when the finding has no threshold of its own."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture inside the page: a data URI and its true size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the judge says of one finding in the two pictures of a panel."""

    finding: str
    asked: bool
    excluded: bool
    generated: float | None
    real: float | None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A generated picture beside the real one of the same prompt, or its nearest training picture.

    Attributes:
        number: by which the page calls it.
        rule: by which it was chosen.
        key: of the sample; shown only where identifiers are asked for.
        index: of the picture among those of its prompt, from 0.
        view: that was asked for.
        prompt: the text.
        asked: findings that the prompt's labels hold present.
        generated: the picture.
        real: the other picture.
        readings: the judge's, those worth showing.
        num_below: findings under their threshold in both pictures, which are not shown.
        distance: to the nearest training picture, in words; empty for other rules.
        train_key: of that picture.
    """

    number: int
    rule: str
    key: str
    index: int
    view: str | None
    prompt: str
    asked: tuple[str, ...]
    generated: Picture | None
    real: Picture | None
    readings: tuple[Reading, ...]
    num_below: int
    distance: str = ""
    train_key: str | None = None

    @property
    def real_name(self) -> str:
        """What the picture on the right is."""
        return "Nearest training picture" if self.rule == CLOSEST else "Real"

    def alt(self, side: str) -> str:
        """What a picture shows, for readers who cannot see it."""
        asked = ", ".join(self.asked) or "no listed finding"
        view = f"{self.view} view, " if self.view else ""
        real = f"{self.real_name} image of the same prompt"
        if self.rule == CLOSEST:
            real = f"{self.real_name} of the generated one"
        what = "Generated picture" if side == "generated" else real
        seen = [
            f"{reading.finding} {value:.2f}"
            for reading in self.readings
            if (value := reading.generated if side == "generated" else reading.real) is not None
        ]
        judged = f"; the judge gives {', '.join(seen)}" if seen else ""
        return f"{what}, panel {self.number}: {view}asked: {asked}{judged}"


def panels(results: Results, folder: Path) -> list[Panel]:
    """The panels with their pictures read.

    Raises:
        FileNotFoundError: if a picture is not there.
        RequestError: if it is not a PNG inside ``folder``.
    """
    judge: Mapping[str, Any] = primary_judge(results) or {}
    thresholds = {row["finding"]: row.get("threshold") for row in judge.get("findings") or []}
    made = []
    for number, row in enumerate(results["panels"] or [], start=1):
        readings = _readings(row)
        shown = tuple(reading for reading in readings if _notable(reading, thresholds))
        made.append(
            Panel(
                number=number,
                rule=row["rule"],
                key=row["key"],
                index=row["index"],
                view=row.get("view"),
                prompt=row["prompt"],
                asked=tuple(row.get("asked") or ()),
                generated=_picture(folder, row.get("generated")),
                real=_picture(folder, row.get("real")),
                readings=shown,
                num_below=len(readings) - len(shown),
                distance=_distance(row),
                train_key=row.get("train_key"),
            )
        )
    return made


def panel_groups(pictures: Sequence[Panel]) -> list[tuple[str, str, list[Panel]]]:
    """The panels by rule, each group with its title and meaning; no group is empty."""
    order = [*PANEL_RULES, *(panel.rule for panel in pictures)]
    groups = []
    for rule in dict.fromkeys(order):
        chosen = [panel for panel in pictures if panel.rule == rule]
        title, meaning = PANEL_RULES.get(rule, (rule, "Chosen by the rule of this name."))
        if chosen:
            groups.append((title, meaning, chosen))
    return groups


def _distance(row: Mapping[str, Any]) -> str:
    distance = finite(row.get("distance"))
    if distance is None:
        return ""
    return f"{significant(distance)} in {row.get('space') or 'a space without a name'}"


def _readings(row: Mapping[str, Any]) -> list[Reading]:
    generated: Mapping[str, Any] = row.get("judge_generated") or {}
    real: Mapping[str, Any] = row.get("judge_real") or {}
    asked, excluded = list(row.get("asked") or ()), list(row.get("excluded") or ())
    names = dict.fromkeys([*asked, *generated, *real]) if generated or real else {}
    return [
        Reading(
            finding=name,
            asked=name in asked,
            excluded=name in excluded,
            generated=finite(generated.get(name)),
            real=finite(real.get(name)),
        )
        for name in names
    ]


def _notable(reading: Reading, thresholds: Mapping[str, Any]) -> bool:
    limit = finite(thresholds.get(reading.finding))
    least = SHOWN_FROM if limit is None else limit
    return reading.asked or any((p or 0.0) >= least for p in (reading.generated, reading.real))


def _picture(folder: Path, name: str | None) -> Picture | None:
    if name is None:
        return None
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RequestError(
            f"{folder / 'results.json'} names a picture outside its folder: {name!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is named in results.json but is not there: run 'arra-med evaluate' again"
        )
    data = pixels_only(path.read_bytes())  # a drawn picture names its key, and maybe its prompt
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        raise RequestError(f"{path} is not a PNG picture: run 'arra-med evaluate' again")
    width, height = struct.unpack(">II", data[16:24])
    return Picture(
        uri=f"data:image/png;base64,{base64.b64encode(data).decode()}", width=width, height=height
    )
