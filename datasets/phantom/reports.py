"""A radiology report in MIMIC-CXR's style for a chest phantom, and the labels it supports.

The labels follow the CheXpert labeler's reading of a report: 1 for what is said to be there, 0
for what is said to be absent, -1 for what is said to be possible, nothing for what is not said.
They are taken from the section that becomes the prompt: the impression, or the findings of a
report that has no impression.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from arra_med.datasets.phantom.findings import ChestSpec, Device, Side
from arra_med.schema import ABSENT, PRESENT, UNCERTAIN

T = TypeVar("T")

NO_IMPRESSION = 0.18
"""Share of reports without an impression, as in MIMIC-CXR."""

_REASONS = (
    "shortness of breath", "cough and fever", "chest pain", "hypoxia", "preoperative evaluation",
    "dyspnea on exertion", "fall", "leukocytosis", "altered mental status", "weakness",
)  # fmt: skip
_DEVICE_TEXT: dict[Device, tuple[str, ...]] = {
    "pacemaker": (
        "{Side}-sided dual-lead pacemaker with leads in the right atrium and right ventricle",
        "{Side} chest wall pacemaker in place with leads in expected position",
    ),
    "port": (
        "{Side} chest wall port catheter terminates in the mid SVC",
        "{Side}-sided Port-A-Cath with tip in the SVC",
    ),
    "PICC": (
        "{Side} PICC terminates in the mid SVC",
        "{Side}-sided PICC with tip in the low SVC",
    ),
    "central venous catheter": (
        "{Side} internal jugular central venous catheter terminates in the mid SVC",
        "{Side} IJ central line with tip in the SVC",
    ),
    "endotracheal tube": (
        "Endotracheal tube terminates ___ cm above the carina",
        "Endotracheal tube in standard position",
    ),
    "nasogastric tube": (
        "Nasogastric tube courses below the diaphragm into the stomach",
        "Enteric tube terminates in the stomach",
    ),
}
DEGREE = {"small": "mild", "moderate": "moderate", "large": "severe"}
ABSENT_WORDS = {
    "Pleural Effusion": "pleural effusion",
    "Pneumothorax": "pneumothorax",
    "Consolidation": "focal consolidation",
    "Cardiomegaly": "cardiomegaly",
    "Lung Lesion": "pulmonary nodule",
    "Support Devices": "indwelling line or tube",
}

Statement = tuple[str, dict[str, int]]
"""A sentence and the labels it supports."""

NORMAL: tuple[Statement, ...] = (
    ("No acute cardiopulmonary process.", {}),
    ("No acute cardiopulmonary abnormality.", {}),
    ("Normal chest radiograph.", {}),
    ("No evidence of pneumonia.", {"Pneumonia": ABSENT}),
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report as a file holds it, and the labels of the section that becomes the prompt.

    Attributes:
        text: the file's content.
        labels: CheXpert names to 1, 0 or -1; a name that is not there is unknown.
        has_impression: whether there is an impression section.
    """

    text: str
    labels: dict[str, int]
    has_impression: bool


def write_report(spec: ChestSpec, views: Sequence[str], rng: np.random.Generator) -> Report:
    """Write the report of a study.

    Args:
        spec: what its pictures show.
        views: of its pictures, in order.
        rng: chooses among ways to say it.
    """
    positive = positives(spec, rng)
    long = _findings(spec, positive, rng)
    short = _impression(spec, positive, rng)
    return compose(spec, views, long, short, rng)


def compose(
    spec: ChestSpec,
    views: Sequence[str],
    long: Statement,
    short: Statement,
    rng: np.random.Generator,
) -> Report:
    """A report of findings (``long``) and, in most, an impression (``short``)."""
    (long_text, long_labels), (short_text, short_labels) = long, short
    has_impression = bool(rng.random() >= NO_IMPRESSION)
    labels = short_labels if has_impression else long_labels
    pathology = [
        name
        for name, value in labels.items()
        if value in (PRESENT, UNCERTAIN) and name != "Support Devices"
    ]
    if not pathology:
        labels = labels | {"No Finding": PRESENT}
    who = "woman" if spec.habitus.breasts else "man"
    question = pick(rng, ("acute process?", "eval for pneumonia", "please evaluate", "___"))
    header = {
        "EXAMINATION": _examination(views),
        "INDICATION": f"___ year old {who} with {pick(rng, _REASONS)}.  // {question}",
        "TECHNIQUE": f"{' and '.join(views)} view{'s' if len(views) > 1 else ''} of the chest",
        "COMPARISON": pick(rng, ("None.", "Chest radiograph ___.", "___.")),
    }
    text = " " * 33 + "FINAL REPORT\n"
    for name, body in header.items():
        text += f" {_wrapped(f'{name}:  {body}')} \n \n"
    text += f" FINDINGS: \n \n {_wrapped(long_text)} \n \n"
    if has_impression:
        text += f" IMPRESSION: \n \n {_wrapped(short_text)}\n"
    return Report(text=text, labels=labels, has_impression=has_impression)


def _wrapped(text: str) -> str:
    """Lines of at most 77 characters, each after the first indented by one space."""
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, 77) or [""]]
    return "\n ".join(lines)


def positives(spec: ChestSpec, rng: np.random.Generator) -> list[Statement]:
    """One sentence for each thing that is there, the most urgent first."""
    said: list[Statement] = []
    if spec.pneumothorax:
        side, size = spec.pneumothorax
        place = "apical " if size == "small" and rng.random() < 0.4 else ""
        text = pick(
            rng,
            (f"{size} {side} {place}pneumothorax", f"{side}-sided {place}pneumothorax, {size}",
             f"there is a {size} {side} {place}pneumothorax"),
        )  # fmt: skip
        shift = " with mediastinal shift to the contralateral side" if size == "large" else ""
        said.append((sentence(text + shift), {"Pneumothorax": PRESENT}))
    if spec.effusion:
        said.append((sentence(_effusion(spec, rng)), {"Pleural Effusion": PRESENT}))
    if spec.consolidation:
        said.append(_consolidation(spec.consolidation, rng))
    if spec.nodule:
        n = spec.nodule
        kind = "mass" if n.diameter >= 3 else "nodule"
        text = pick(
            rng,
            (f"{n.diameter:.1f} cm {kind} in the {n.side} {n.zone} lung",
             f"{n.side} {n.zone} lung {kind} measuring {n.diameter:.1f} cm",
             f"rounded {kind} in the {n.side} {n.zone} lung zone, CT is recommended"),
        )  # fmt: skip
        said.append((sentence(text), {"Lung Lesion": PRESENT}))
    if spec.cardiomegaly:
        word = DEGREE[spec.cardiomegaly]
        adverb = f"{word}ly"
        text = pick(
            rng, (f"{word} cardiomegaly", f"heart is {adverb} enlarged",
                  f"{adverb} enlarged cardiac silhouette")
        )  # fmt: skip
        said.append((sentence(text), {"Cardiomegaly": PRESENT}))
    for device in spec.devices:
        text = pick(rng, _DEVICE_TEXT[device]).format(Side=spec.device_side.capitalize())
        said.append((sentence(text), {"Support Devices": PRESENT}))
    return said


def _effusion(spec: ChestSpec, rng: np.random.Generator) -> str:
    sides = list(spec.effusion)
    size = spec.effusion[sides[0]]
    if len(sides) == 2:
        return pick(rng, (f"{size} bilateral pleural effusions",
                           f"bilateral pleural effusions, {size} in size"))  # fmt: skip
    side: Side = sides[0]
    choices = [
        f"{size} {side} pleural effusion",
        f"there is a {size} {side} pleural effusion",
        f"{side}-sided pleural effusion, {size} in size",
    ]
    if size == "small":
        choices.append(f"small {side} pleural effusion with blunting of the costophrenic angle")
    if size == "large":
        choices.append(f"large {side} pleural effusion with mediastinal shift")
    return pick(rng, choices)


def _consolidation(lobe: str, rng: np.random.Generator) -> Statement:
    adjective = "lingular" if lobe == "lingula" else lobe
    text = pick(
        rng,
        (f"{adjective} consolidation", f"consolidation in the {lobe}",
         f"focal consolidation within the {lobe}"),
    )  # fmt: skip
    labels = {"Consolidation": PRESENT}
    if rng.random() < 0.4:
        text += pick(rng, (", which may represent pneumonia", ", possibly pneumonia"))
        labels["Pneumonia"] = UNCERTAIN
    return sentence(text), labels


def _findings(
    spec: ChestSpec, positive: list[Statement], rng: np.random.Generator
) -> tuple[str, dict[str, int]]:
    """The long section: everything that is there, and everything that was looked for."""
    present = spec.findings
    said = list(positive)
    absent = [
        name
        for name in ("Consolidation", "Pleural Effusion", "Pneumothorax")
        if name not in present
    ]
    if absent:
        said.append(negative(absent, rng))
    if "Cardiomegaly" not in present:
        shifted = "large" in (*spec.effusion.values(), *(spec.pneumothorax or ()))
        if shifted or rng.random() < 0.5:
            said.append(("Heart size is normal.", {"Cardiomegaly": ABSENT}))
        else:
            labels = {"Cardiomegaly": ABSENT, "Enlarged Cardiomediastinum": ABSENT}
            said.append(("The cardiomediastinal silhouette is normal.", labels))
    if rng.random() < 0.4:
        said.append(("There is no pulmonary edema.", {"Edema": ABSENT}))
    if rng.random() < 0.3:
        said.append(("No displaced rib fracture.", {"Fracture": ABSENT}))
    return join(said)


def _impression(
    spec: ChestSpec, positive: list[Statement], rng: np.random.Generator
) -> tuple[str, dict[str, int]]:
    """The short section: what is there, sometimes numbered, and a few explicit negatives."""
    said = list(positive)
    if not positive:
        said.append(pick(rng, NORMAL))
    absent = [name for name in ABSENT_WORDS if name not in spec.findings]
    num_negatives = min(len(absent), int(rng.choice(4, p=(0.2, 0.3, 0.3, 0.2))))
    if num_negatives:
        chosen = sorted(rng.choice(len(absent), num_negatives, replace=False))
        said.append(negative([absent[i] for i in chosen], rng))
    text, labels = join(said)
    if len(said) > 1 and rng.random() < 0.35:
        text = "\n".join(f"{number}.  {line}" for number, (line, _) in enumerate(said, start=1))
    if "Pneumothorax" in spec.findings and rng.random() < 0.5:
        text += "\n\nFindings discussed with Dr. ___ by phone at ___."
    return text, labels


def negative(
    names: Sequence[str], rng: np.random.Generator, words_of: Mapping[str, str] = ABSENT_WORDS
) -> Statement:
    """One sentence that says that none of ``names`` is there."""
    words = [words_of[name] for name in names]
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    opening = pick(rng, ("No", "There is no", "No evidence of"))
    return f"{opening} {listed}.", dict.fromkeys(names, ABSENT)


def join(said: Sequence[Statement]) -> Statement:
    """Sentences one after the other, with all their labels."""
    labels: dict[str, int] = {}
    for _, supported in said:
        labels |= supported
    return " ".join(text for text, _ in said), labels


def _examination(views: Sequence[str]) -> str:
    if "AP" in views:
        return "CHEST (PORTABLE AP)"
    return "CHEST (PA AND LAT)" if len(views) > 1 else "CHEST (PA)"


def sentence(text: str) -> str:
    """A capital at its start and a full stop at its end."""
    return text[0].upper() + text[1:] + "."


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of ``choices``, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
