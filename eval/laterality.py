"""Is a finding drawn on the side that was asked for? A judge of whole pictures says, half by half.

Sides are the patient's. On a frontal film the patient faces the reader, so that the patient's
**right is on the left of the picture**. Of every picture two are made: one shows the patient's
right half and its mirror image, the other the left half and its mirror image. The side whose
picture gets the higher probability is the side shown. Lateral films have no such halves and are
left out; the side of an eye is another thing, so fundus pictures are left out too.

Why mirrored: of 243 findings on drawn frontal films (900 drawn, 64 px, the judge ``cnn`` fitted on
the training split) a mirrored half told the side in 90 % (effusion and pneumothorax 100 %,
consolidation 97 %, nodules, which this judge hardly sees, 71 %). With the other half black it was
81 %, grey 87 %, filled from the mean training film 89 to 91 %.

A doubled left half holds a doubled heart, so that a judge may prefer one side whatever is there.
Therefore the sides weigh the same: the share is the mean of that among findings asked for on the
left and that on the right. Chance is then exactly 0.5, for a judge that always says "left" too. A
judge that prefers neither half counts one half.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arra_med.errors import RequestError
from arra_med.eval.estimators import Measure, average, ratio
from arra_med.eval.intervals import ClusteredBootstrap, Interval
from arra_med.images import decode_png, encode_png
from arra_med.schema import PRESENT
from arra_med.sides import SIDES, Side, asked_sides, exchange_one_side

Predict = Callable[[Sequence[bytes], str], NDArray[np.float32]]
"""PNG pictures and a name for the progress bar to ``(N, F)`` probabilities."""

FRONTAL_VIEWS = ("PA", "AP", "frontal")
LEAST_CASES = 20
"""Pictures that a finding needs for a row of its own."""

_NO_CASE = (
    "no prompt of a frontal chest film (view PA or AP) asks for a finding that the judge knows on "
    "exactly one side"
)
_MAY_DIFFER = {
    "prompts", "prepared", "swap_sides", "split", "limit", "carry", "images_per_prompt",
    "part_size", "prompt_in_metadata", "dicom",
}  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class SidedPictures:
    """Pictures with what was asked of them, N of each.

    Attributes:
        keys: of the prompts.
        indices: which of the prompt's pictures; 0 for real ones.
        prompts: the text drawn from; of a real picture its own.
        labels: name → label of the prompt; a finding that is labelled anything but present does
            not count, whatever the text says.
        views: of the prompts' samples.
        patients: whose they are.
        pngs: PNG bytes.
    """

    keys: Sequence[str]
    indices: Sequence[int]
    prompts: Sequence[str]
    labels: Sequence[Mapping[str, int | None]]
    views: Sequence[str | None]
    patients: Sequence[str]
    pngs: Sequence[bytes]

    def __post_init__(self) -> None:
        counts = {name: len(values) for name, values in vars(self).items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"expected as many of each, got {counts}")


class DrawnFolder(Protocol):
    """What :func:`match_swapped` reads of a generated folder."""

    @property
    def folder(self) -> Path:
        """Its path."""

    @property
    def manifest(self) -> dict[str, Any]:
        """Its manifest."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of its table: ``key``, ``index``, ``prompt`` …"""


@dataclass(frozen=True)
class _Case:
    """One finding asked for on one side."""

    key: str
    index: int
    finding: str
    side: Side
    patient: str
    preference: int  # 1: the judge prefers the left half, -1 the right one, 0 neither

    @property
    def followed(self) -> float:
        return (1 + self.preference * (1 if self.side == "left" else -1)) / 2


def half_pictures(png: bytes) -> tuple[bytes, bytes]:
    """The patient's right half and its mirror image, and the left half and its mirror image.

    Args:
        png: a frontal film, ``(H, W, 1 or 3)``; of an odd width the middle column is in both.

    Returns:
        PNG bytes of two pictures as large, ``(right, left)``.
    """
    pixels = decode_png(png)
    width = pixels.shape[1]
    half = width // 2
    right, left = pixels.copy(), pixels.copy()
    right[:, width - half :] = pixels[:, :half][:, ::-1]
    left[:, :half] = pixels[:, width - half :][:, ::-1]
    return encode_png(right), encode_png(left)


def laterality_test(
    *,
    findings: Sequence[str],
    predict: Predict,
    generated: SidedPictures,
    real: SidedPictures,
    swapped: SidedPictures | None,
    replicates: int,
    generator: np.random.Generator,
) -> tuple[dict[str, Any] | None, str | None]:
    """Ask the judge on which side the pictures show what was asked for on one side.

    Args:
        findings: the judge's, in the order of its outputs.
        predict: the judge.
        generated: drawn from the prompts as they are.
        real: of the same prompts, the ceiling.
        swapped: drawn from the prompts with left and right exchanged, under the same keys, if
            there are any; see :func:`match_swapped`.
        replicates: of the bootstrap over patients.
        generator: draws them.

    Returns:
        ``n`` (findings in pictures), ``followed``, ``followed_real``, ``by_finding`` and
        ``swapped`` of the results file's section ``laterality``; or ``None`` and the reason why
        the test cannot be made. ``flipped`` is the share of findings, in pictures of the same key
        and index, whose side changed with the prompt: 0 if the prompt's side does nothing, 0.5 by
        chance.

    Raises:
        RequestError: naming a picture that cannot be read.
        ValueError: if the judge's outputs are of another shape.
    """

    def judged(pictures: SidedPictures, what: str) -> list[_Case]:
        return _judge_halves(pictures, findings, predict, f"judge: halves, {what}")

    def share(cases: Sequence[_Case]) -> Interval:
        return _share_followed(cases, replicates, generator)

    cases = judged(generated, "generated")
    if not cases:
        return None, _NO_CASE
    if len({case.side for case in cases}) < len(SIDES):
        return None, f"all {len(cases)} findings asked for on one side are on the {cases[0].side}"
    asked = {(case.key, case.finding) for case in cases}
    real_cases = [c for c in judged(real, "real") if (c.key, c.finding) in asked]
    result: dict[str, Any] = {"n": len(cases)}
    share(cases).write(result, "followed", n=len(cases))
    share(real_cases).write(result, "followed_real", n=len(real_cases))
    result["by_finding"] = []
    for finding in findings:
        made = [case for case in cases if case.finding == finding]
        if len(made) >= LEAST_CASES:
            genuine = [case for case in real_cases if case.finding == finding]
            row: dict[str, Any] = {"finding": finding, "n": len(made)}
            share(made).write(row, "followed", n=len(made))
            share(genuine).write(row, "followed_real", n=len(genuine))
            result["by_finding"].append(row)
    result["swapped"] = None
    if swapped is None:
        result["swapped_note"] = "no pictures with exchanged sides were given"
        return result, None
    turned = judged(swapped, "exchanged sides")
    if not turned:
        result["swapped_note"] = _NO_CASE
        return result, None
    result["swapped"] = {"n": len(turned)}
    share(turned).write(result["swapped"], "followed", n=len(turned))
    flips = _flips(cases, turned)
    flipped = _mean([flip for _, flip in flips], [who for who, _ in flips], replicates, generator)
    flipped.write(result["swapped"], "flipped", n=len(flips))
    return result, None


def match_swapped(generated: DrawnFolder, swapped: DrawnFolder) -> list[dict[str, Any]]:
    """Rows of ``swapped`` whose counterparts are in ``generated``: same key, the other side.

    Args:
        generated: drawn from the prompts as they are.
        swapped: drawn with ``generation.swap_sides``.

    Raises:
        RequestError: if ``swapped`` was drawn without that, by another model, seed or settings, or
            from other prompts.
    """
    config, other = generated.manifest["config"], swapped.manifest["config"]
    if other.get("swap_sides") is not True:
        raise RequestError(
            f"evaluation.swapped: {swapped.folder} was not drawn with generation.swap_sides"
        )
    names = sorted((config.keys() | other.keys()) - _MAY_DIFFER)
    differ = [name for name in names if config.get(name) != other.get(name)]
    if differ:
        raise RequestError(
            f"evaluation.swapped: {swapped.folder} and {generated.folder} differ in "
            f"{', '.join(differ)}, not by the side alone: draw both with the same settings"
        )
    prompts = {(row["key"], row["index"]): row["prompt"] for row in generated.rows}
    rows = [row for row in swapped.rows if (row["key"], row["index"]) in prompts]
    wrong = [
        row["key"]
        for row in rows
        if row["prompt"] != exchange_one_side(prompts[row["key"], row["index"]])
    ]
    if wrong or not rows:
        said = f"{len(wrong)} prompts are not those" if rows else "no picture has the key of one"
        first = f", first key {wrong[0]!r}" if wrong else ""
        raise RequestError(
            f"evaluation.swapped: {said} of {generated.folder} with sides exchanged{first}: draw "
            f"{swapped.folder} again from the same prompts"
        )
    return rows


def _judge_halves(
    pictures: SidedPictures, findings: Sequence[str], predict: Predict, what: str
) -> list[_Case]:
    asked = [
        (row, sides)
        for row, view in enumerate(pictures.views)
        if view in FRONTAL_VIEWS
        and (sides := _asked(pictures.prompts[row], pictures.labels[row], findings))
    ]
    if not asked:
        return []
    halves = [half for row, _ in asked for half in _halves(pictures, row)]
    outputs = predict(halves, what)
    if outputs.shape != (len(halves), len(findings)):
        raise ValueError(f"expected ({len(halves)}, {len(findings)}), got {outputs.shape}")
    right, left = outputs[0::2], outputs[1::2]
    return [
        _Case(
            key=pictures.keys[row],
            index=pictures.indices[row],
            finding=finding,
            side=side,
            patient=pictures.patients[row],
            preference=int(np.sign(left[place, column] - right[place, column])),
        )
        for place, (row, sides) in enumerate(asked)
        for column, finding in enumerate(findings)
        if (side := sides.get(finding)) is not None
    ]


def _halves(pictures: SidedPictures, row: int) -> tuple[bytes, bytes]:
    try:
        return half_pictures(pictures.pngs[row])
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises of a damaged PNG
        raise RequestError(
            f"picture {pictures.keys[row]}-{pictures.indices[row]} cannot be read "
            f"({type(error).__name__}): draw it again"
        ) from error


def _asked(
    prompt: str, labels: Mapping[str, int | None], findings: Sequence[str]
) -> dict[str, Side]:
    there = [name for name in findings if labels.get(name) in (PRESENT, None)]
    return asked_sides(prompt, there)


def _share_followed(
    cases: Sequence[_Case], replicates: int, generator: np.random.Generator
) -> Interval:
    """Mean of the shares of either side."""
    if {case.side for case in cases} != set(SIDES):
        where = f"all are on the {cases[0].side}" if cases else "there is none"
        return Interval(None, None, None, f"needs findings asked for on both sides; {where}")
    followed = np.array([case.followed for case in cases])
    shares: list[Measure] = []
    for side in SIDES:
        on_side = np.array([case.side == side for case in cases], dtype=np.float64)
        shares.append(ratio(followed * on_side, on_side))
    bootstrap = ClusteredBootstrap(
        [case.patient for case in cases], replicates=replicates, generator=generator
    )
    return bootstrap.interval(average(shares))


def _flips(cases: Sequence[_Case], turned: Sequence[_Case]) -> list[tuple[str, float]]:
    """Patient, and 1 where the side shown changed, of each finding asked for on either side."""
    before = {(case.key, case.index, case.finding): case for case in cases}
    pairs = [
        (before[place], case)
        for case in turned
        if (place := (case.key, case.index, case.finding)) in before
    ]
    return [(a.patient, (1 - a.preference * b.preference) / 2) for a, b in pairs]


def _mean(
    values: Sequence[float],
    patients: Sequence[str],
    replicates: int,
    generator: np.random.Generator,
) -> Interval:
    if not values:
        return Interval(None, None, None, "no finding is asked for in both")
    bootstrap = ClusteredBootstrap(patients, replicates=replicates, generator=generator)
    return bootstrap.interval(ratio(np.array(values), np.ones(len(values))))
