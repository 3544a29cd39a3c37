"""What a chest phantom shows: the views, the findings with side, size and place, and the body.

A specification is drawn first; the picture and the report are both made from it, so that they
agree. The same specification with another view is the same patient seen from another side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

T = TypeVar("T")

View = Literal["PA", "AP", "lateral"]
Side = Literal["right", "left"]
Size = Literal["small", "moderate", "large"]
Zone = Literal["upper", "mid", "lower"]
Lobe = Literal[
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "lingula",
    "left lower lobe",
]
Device = Literal[
    "pacemaker",
    "port",
    "PICC",
    "central venous catheter",
    "endotracheal tube",
    "nasogastric tube",
]

VIEWS: tuple[View, ...] = ("PA", "AP", "lateral")
SIDES: tuple[Side, ...] = ("right", "left")
SIZES: tuple[Size, ...] = ("small", "moderate", "large")
ZONES: tuple[Zone, ...] = ("upper", "mid", "lower")
LOBES: tuple[Lobe, ...] = (
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "lingula",
    "left lower lobe",
)
FINDINGS = (
    "Pleural Effusion",
    "Cardiomegaly",
    "Pneumothorax",
    "Consolidation",
    "Lung Lesion",
    "Support Devices",
)
"""The findings a phantom can show, by their CheXpert names."""

_LOWER: tuple[Lobe, ...] = (
    "right middle lobe", "right lower lobe", "lingula", "left lower lobe",
)  # fmt: skip
_ZONE_OF_LOBE: dict[Lobe, tuple[Zone, ...]] = {
    "right upper lobe": ("upper", "mid"),
    "right middle lobe": ("mid", "lower"),
    "right lower lobe": ("mid", "lower"),
    "left upper lobe": ("upper", "mid"),
    "lingula": ("mid", "lower"),
    "left lower lobe": ("mid", "lower"),
}


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """A round lesion: where, and its diameter in centimetres (from 3 on it is called a mass)."""

    side: Side
    zone: Zone
    diameter: float


@dataclass(frozen=True, kw_only=True)
class Habitus:
    """The body that carries the findings; it belongs to the patient, not to the film.

    Attributes:
        width: breadth of the chest, 1 is average.
        length: height of the lungs, 1 is average.
        fat: thickness of the chest wall, 0 thin to 1 obese.
        breasts: density of breast shadows, 0 for none.
        heart: size of the heart without disease, 1 is average.
        age: years.
    """

    width: float = 1.0
    length: float = 1.0
    fat: float = 0.3
    breasts: float = 0.0
    heart: float = 1.0
    age: int = 60


@dataclass(frozen=True, kw_only=True)
class ChestSpec:
    """Everything a chest picture and its report must agree on.

    Attributes:
        view: of this picture.
        effusion: size of the fluid on each side that has some.
        cardiomegaly: ``small`` (mild), ``moderate``, ``large`` (severe) or ``None``.
        pneumothorax: side and size, or ``None``.
        consolidation: lobe, or ``None``.
        nodule: or ``None``.
        devices: lines, tubes and implants.
        device_side: side of a pacemaker, port, PICC or catheter.
        habitus: the body.
    """

    view: View
    effusion: dict[Side, Size] = field(default_factory=dict)
    cardiomegaly: Size | None = None
    pneumothorax: tuple[Side, Size] | None = None
    consolidation: Lobe | None = None
    nodule: Nodule | None = None
    devices: tuple[Device, ...] = ()
    device_side: Side = "right"
    habitus: Habitus = field(default_factory=Habitus)

    @property
    def findings(self) -> frozenset[str]:
        """CheXpert names of what is present."""
        present = {
            "Pleural Effusion": bool(self.effusion),
            "Cardiomegaly": self.cardiomegaly is not None,
            "Pneumothorax": self.pneumothorax is not None,
            "Consolidation": self.consolidation is not None,
            "Lung Lesion": self.nodule is not None,
            "Support Devices": bool(self.devices),
        }
        return frozenset(name for name, shown in present.items() if shown)


def lobe_side(lobe: Lobe) -> Side:
    """The side a lobe belongs to; the lingula is part of the left lung."""
    return "right" if lobe.startswith("right") else "left"


def sample_habitus(rng: np.random.Generator) -> Habitus:
    """A random adult body."""
    female = rng.random() < 0.48
    return Habitus(
        width=rng.uniform(0.9, 1.0) if female else rng.uniform(0.96, 1.08),
        length=rng.uniform(0.92, 1.06),
        fat=rng.beta(2, 3),
        breasts=rng.uniform(0.35, 1.0) if female else 0.0,
        heart=rng.uniform(0.94, 1.06),
        age=int(rng.integers(22, 91)),
    )


def sample_spec(
    rng: np.random.Generator,
    *,
    findings: frozenset[str] | None = None,
    view: View | None = None,
    habitus: Habitus | None = None,
) -> ChestSpec:
    """Draw a specification in which every finding can be seen.

    Args:
        rng: where the randomness comes from.
        findings: which to show; each with a chance of one in four if not given. One that would
            be hidden behind the others (a nodule in a collapsed lung) is left out.
        view: PA, AP or lateral in proportions 50 : 35 : 15 if not given.
        habitus: a random body if not given.
    """
    if findings is None:
        findings = frozenset(name for name in FINDINGS if rng.random() < 0.25)
    seen: View = _pick(rng, VIEWS, (0.50, 0.35, 0.15)) if view is None else view
    effusion = _effusion(rng, "Pneumothorax" in findings) if "Pleural Effusion" in findings else {}
    pneumothorax: tuple[Side, Size] | None = None
    if "Pneumothorax" in findings:
        free = [side for side in SIDES if side not in effusion]
        pneumothorax = (_pick(rng, free), _pick(rng, SIZES, (0.3, 0.4, 0.3)))
    collapsed = pneumothorax[0] if pneumothorax else None
    lobes = [
        lobe
        for lobe in LOBES
        if lobe_side(lobe) != collapsed
        and not (lobe in _LOWER and effusion.get(lobe_side(lobe), "none") != "none")
        and effusion.get(lobe_side(lobe)) != "large"
    ]
    consolidation = _pick(rng, lobes) if "Consolidation" in findings and lobes else None
    return ChestSpec(
        view=seen,
        effusion=effusion,
        cardiomegaly=_pick(rng, SIZES, (0.35, 0.4, 0.25)) if "Cardiomegaly" in findings else None,
        pneumothorax=pneumothorax,
        consolidation=consolidation,
        nodule=(
            _nodule(rng, effusion, collapsed, consolidation) if "Lung Lesion" in findings else None
        ),
        devices=_devices(rng, seen) if "Support Devices" in findings else (),
        device_side=_pick(rng, SIDES),
        habitus=habitus or sample_habitus(rng),
    )


def _pick(
    rng: np.random.Generator, choices: Sequence[T], weights: Sequence[float] | None = None
) -> T:
    return choices[int(rng.choice(len(choices), p=weights))]


def _effusion(rng: np.random.Generator, one_side: bool) -> dict[Side, Size]:
    if not one_side and rng.random() < 0.2:
        size = _pick(rng, SIZES[:2])
        return {"right": size, "left": size}
    return {_pick(rng, SIDES): _pick(rng, SIZES, (0.3, 0.4, 0.3))}


def _nodule(
    rng: np.random.Generator,
    effusion: dict[Side, Size],
    collapsed: Side | None,
    consolidation: Lobe | None,
) -> Nodule | None:
    clear: dict[Size | None, tuple[Zone, ...]] = {
        None: ZONES, "small": ("upper", "mid"), "moderate": ("upper",), "large": (),
    }  # fmt: skip
    places = [
        (side, zone)
        for side in SIDES
        if side != collapsed
        for zone in clear[effusion.get(side)]
        if not (
            consolidation
            and lobe_side(consolidation) == side
            and zone in _ZONE_OF_LOBE[consolidation]
        )
    ]
    if not places:
        return None
    side, zone = _pick(rng, places)
    return Nodule(side=side, zone=zone, diameter=round(float(rng.uniform(1.8, 4.2)), 1))


def _devices(rng: np.random.Generator, view: View) -> tuple[Device, ...]:
    if view == "AP":
        kits: tuple[tuple[Device, ...], ...] = (
            ("endotracheal tube", "nasogastric tube"),
            ("endotracheal tube", "central venous catheter"),
            ("central venous catheter",),
            ("PICC",),
            ("nasogastric tube",),
            ("pacemaker",),
        )
        return _pick(rng, kits)
    return _pick(rng, (("pacemaker",), ("pacemaker",), ("port",), ("PICC",)))
