"""Reports in MIMIC-CXR's style for chest phantoms of rich anatomy: twelve findings.

Sentences of the first six findings, the header and the sections are those of ``reports``.
"""

from collections.abc import Sequence

import numpy as np

from arra_med.datasets.phantom.findings import (
    RICH_FINDINGS,
    Atelectasis,
    ChestSpec,
    Opacity,
    PleuralChange,
    RibFracture,
    Side,
    Size,
)
from arra_med.datasets.phantom.reports import (
    ABSENT_WORDS,
    DEGREE,
    NORMAL,
    Report,
    Statement,
    compose,
    join,
    negative,
    pick,
    positives,
    sentence,
)
from arra_med.schema import ABSENT, PRESENT

MOST_WORDS = 50
"""Longest impression to which negatives are added."""

_WORDS = {
    **ABSENT_WORDS,
    "Enlarged Cardiomediastinum": "mediastinal widening",
    "Lung Opacity": "patchy airspace opacity",
    "Edema": "pulmonary edema",
    "Atelectasis": "atelectasis",
    "Pleural Other": "pleural thickening",
    "Fracture": "displaced rib fracture",
}
_OPAQUE = ("Consolidation", "Edema")
"""With these nobody would deny a patchy opacity."""
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_OPACITY_WORDS: dict[Size, tuple[str, ...]] = {
    "small": ("subtle patchy", "faint patchy", "small patchy"),
    "moderate": ("patchy", "moderate patchy"),
    "large": ("extensive patchy", "large confluent"),
}
_PLAQUES: dict[Size, str] = {"small": "few", "moderate": "several", "large": "extensive"}


def write_rich_report(spec: ChestSpec, views: Sequence[str], rng: np.random.Generator) -> Report:
    """Write the report of a study.

    Args:
        spec: what its pictures show.
        views: of its pictures, in order.
        rng: chooses among ways to say it.
    """
    said = positives(spec, rng)
    urgent, rest = said[: bool(spec.pneumothorax)], said[bool(spec.pneumothorax) :]
    rest += _further_positives(spec, rng)
    positive = urgent + [rest[i] for i in rng.permutation(len(rest))]
    long = _findings(spec, positive, rng)
    short = _impression(spec, positive, rng)
    return compose(spec, views, long, short, rng)


def _further_positives(spec: ChestSpec, rng: np.random.Generator) -> list[Statement]:
    """One sentence for each of the findings that only rich anatomy has."""
    said: list[tuple[str, str]] = []
    if spec.edema:
        said.append(("Edema", _edema(spec.edema, rng)))
    if spec.opacity:
        said.append(("Lung Opacity", _opacity(spec.opacity, rng)))
    if spec.atelectasis:
        said.append(("Atelectasis", _atelectasis(spec.atelectasis, rng)))
    if spec.pleura:
        said.append(("Pleural Other", _pleura(spec.pleura, rng)))
    if spec.mediastinum:
        said.append(("Enlarged Cardiomediastinum", _mediastinum(spec.mediastinum, rng)))
    if spec.fracture:
        said.append(("Fracture", _fracture(spec.fracture, rng)))
    return [(sentence(text), {name: PRESENT}) for name, text in said]


def _edema(size: Size, rng: np.random.Generator) -> str:
    word = DEGREE[size]
    kind = {"small": "interstitial ", "moderate": "", "large": "alveolar "}[size]
    return pick(
        rng,
        (f"{word} pulmonary edema", f"{word} {kind}pulmonary edema",
         f"there is {word} {kind}edema", f"findings consistent with {word} pulmonary edema"),
    )  # fmt: skip


def _opacity(opacity: Opacity, rng: np.random.Generator) -> str:
    word, zone = pick(rng, _OPACITY_WORDS[opacity.size]), opacity.zone
    if len(opacity.sides) == 2:
        return pick(
            rng,
            (f"{word} opacities in both {zone} lungs", f"bilateral {word} {zone} lung opacities",
             f"{word} airspace opacities in the {zone} lungs bilaterally"),
        )  # fmt: skip
    side = opacity.sides[0]
    return pick(
        rng,
        (f"{word} opacities in the {side} {zone} lung", f"{word} {side} {zone} lung opacity",
         f"{word} airspace opacity projecting over the {side} {zone} lung"),
    )  # fmt: skip


def _atelectasis(collapse: Atelectasis, rng: np.random.Generator) -> str:
    word = DEGREE[collapse.size]
    if collapse.lobe:
        lobe = collapse.lobe
        choices = [
            f"{word} {lobe} atelectasis with volume loss",
            f"{word} atelectasis of the {lobe}",
            f"{word} volume loss and atelectasis in the {lobe}",
        ]
        if collapse.size == "large":
            choices.append(f"collapse of the {lobe}")
        return pick(rng, choices)
    if len(collapse.sides) == 2:
        return pick(
            rng,
            (f"{word} bibasilar atelectasis", f"{word} linear atelectasis at both lung bases",
             f"{word} bibasilar platelike atelectasis"),
        )  # fmt: skip
    side = collapse.sides[0]
    return pick(
        rng,
        (f"{word} {side} basilar atelectasis", f"{word} linear atelectasis at the {side} lung base",
         f"{word} platelike atelectasis at the {side} base"),
    )  # fmt: skip


def _pleura(change: PleuralChange, rng: np.random.Generator) -> str:
    word, both = DEGREE[change.size], len(change.sides) == 2
    where: str | Side = "bilateral" if both else change.sides[0]
    if change.kind == "plaques":
        many = _PLAQUES[change.size]
        place = "in both hemithoraces" if both else f"in the {where} hemithorax"
        return pick(
            rng,
            (
                f"{many} {where} calcified pleural plaques",
                f"{many} calcified pleural plaques {place}",
            ),
        )
    if change.kind == "apical":
        apex = "biapical" if both else f"{where} apical"
        return pick(
            rng,
            (f"{word} {apex} pleural thickening", f"{word} {apex} pleural scarring",
             f"{word} pleural thickening at {'both apices' if both else f'the {where} apex'}"),
        )  # fmt: skip
    wall = "both lateral chest walls" if both else f"the {where} lateral chest wall"
    return pick(
        rng,
        (f"{word} {where} pleural thickening", f"{word} pleural thickening along {wall}"),
    )


def _mediastinum(size: Size, rng: np.random.Generator) -> str:
    word = DEGREE[size]
    return pick(
        rng,
        (f"{word} widening of the superior mediastinum", f"the mediastinum is {word}ly widened",
         f"{word}ly widened superior mediastinum", f"{word} superior mediastinal widening"),
    )  # fmt: skip


def _fracture(fracture: RibFracture, rng: np.random.Generator) -> str:
    side, first = fracture.side, _ORDINALS[fracture.first - 1]
    if fracture.count == 1:
        return pick(
            rng,
            (f"displaced {side} {first} rib fracture",
             f"displaced fracture of the {side} {first} rib",
             f"acute displaced fracture of the {side} {first} rib"),
        )  # fmt: skip
    last = _ORDINALS[fracture.first + fracture.count - 2]
    link = "and" if fracture.count == 2 else "through"
    return pick(
        rng,
        (f"displaced {side} {first} {link} {last} rib fractures",
         f"displaced fractures of the {side} {first} {link} {last} ribs",
         f"acute displaced fractures of the {side} {first} {link} {last} ribs"),
    )  # fmt: skip


def _deniable(spec: ChestSpec) -> list[str]:
    """Findings that a report may say are not there."""
    present = spec.findings
    opaque = any(name in present for name in _OPAQUE)
    return [
        name
        for name in RICH_FINDINGS
        if name not in present and not (name == "Lung Opacity" and opaque)
    ]


def _findings(
    spec: ChestSpec, positive: Sequence[Statement], rng: np.random.Generator
) -> Statement:
    """The long section: everything that is there, and much that was looked for."""
    said = list(positive)
    deniable = _deniable(spec)
    usual = [n for n in ("Consolidation", "Pleural Effusion", "Pneumothorax") if n in deniable]
    if usual:
        said.append(negative(usual, rng, _WORDS))
    heart = {"Cardiomegaly", "Enlarged Cardiomediastinum"}
    if heart <= set(deniable) and rng.random() < 0.5:
        said.append(("The cardiomediastinal silhouette is normal.", dict.fromkeys(heart, ABSENT)))
    elif "Cardiomegaly" in deniable:
        said.append(("Heart size is normal.", {"Cardiomegaly": ABSENT}))
    others = [n for n in deniable if n not in usual and n not in heart and rng.random() < 0.6]
    if others:
        said.append(negative(others, rng, _WORDS))
    return join(said)


def _impression(
    spec: ChestSpec, positive: Sequence[Statement], rng: np.random.Generator
) -> Statement:
    """The short section: what is there, sometimes numbered, and some explicit negatives."""
    said = list(positive) or [pick(rng, NORMAL)]
    deniable = _deniable(spec)
    wanted = int(rng.choice(7, p=(0.08, 0.08, 0.14, 0.18, 0.2, 0.18, 0.14)))
    order = [deniable[i] for i in rng.permutation(len(deniable))]
    chosen: list[str] = []
    left = MOST_WORDS - 4 - sum(len(text.split()) for text, _ in said)
    for name in order[:wanted]:
        left -= len(_WORDS[name].split()) + 1
        if left >= 0:
            chosen.append(name)
    if chosen:
        said.append(negative(chosen, rng, _WORDS))
    text, labels = join(said)
    if len(said) > 1 and rng.random() < 0.35:
        text = "\n".join(f"{number}.  {line}" for number, (line, _) in enumerate(said, start=1))
    return text, labels
