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
PleuralKind = Literal["thickening", "plaques", "apical"]
Anatomy = Literal["simple", "rich"]
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
PLEURAL_KINDS: tuple[PleuralKind, ...] = ("thickening", "plaques", "apical")
FINDINGS = (
    "Pleural Effusion",
    "Cardiomegaly",
    "Pneumothorax",
    "Consolidation",
    "Lung Lesion",
    "Support Devices",
)
"""The findings a phantom of simple anatomy can show, by their CheXpert names."""
RICH_FINDINGS = (
    *FINDINGS,
    "Enlarged Cardiomediastinum",
    "Lung Opacity",
    "Edema",
    "Atelectasis",
    "Pleural Other",
    "Fracture",
)
"""The findings a phantom of rich anatomy can show."""

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
class Opacity:
    """Ill-defined patches in one zone of one lung or both, from few and faint to extensive."""

    sides: tuple[Side, ...]
    zone: Zone
    size: Size


@dataclass(frozen=True, kw_only=True)
class Atelectasis:
    """Plates at the base of one lung or both, or (``lobe`` given) a lobe that lost volume."""

    sides: tuple[Side, ...]
    lobe: Lobe | None
    size: Size


@dataclass(frozen=True, kw_only=True)
class PleuralChange:
    """Thickened pleura along the wall, calcified plaques, or a scarred apex."""

    kind: PleuralKind
    sides: tuple[Side, ...]
    size: Size


@dataclass(frozen=True, kw_only=True)
class RibFracture:
    """Displaced fractures of ``count`` neighbouring ribs, the uppermost number ``first``."""

    side: Side
    first: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Habitus:
    """The body that carries the findings; it belongs to the patient, not to the film.

    Attributes:
        width: breadth of the chest, 1 is average.
        length: height of the lungs, 1 is average.
        fat: thickness of the chest wall, 0 thin to 1 obese; rich anatomy goes beyond both.
        breasts: density of breast shadows, 0 for none.
        heart: size of the heart without disease, 1 is average.
        age: years.
        bend: sideways shift of the middle of the spine in centimetres, to the patient's left.
        kyphosis: curvature of the spine seen from the side, 1 is average.
        emphysema: 0 for none, 1 for overblown lungs over flat domes of the diaphragm.
    """

    width: float = 1.0
    length: float = 1.0
    fat: float = 0.3
    breasts: float = 0.0
    heart: float = 1.0
    age: int = 60
    bend: float = 0.0
    kyphosis: float = 1.0
    emphysema: float = 0.0


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
        mediastinum: how much it is widened, or ``None``; this and what follows need rich anatomy.
        opacity: or ``None``.
        edema: ``small`` (mild, interstitial) to ``large`` (severe, alveolar), or ``None``.
        atelectasis: or ``None``.
        pleura: what is wrong with it beside fluid and air, or ``None``.
        fracture: or ``None``.
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
    mediastinum: Size | None = None
    opacity: Opacity | None = None
    edema: Size | None = None
    atelectasis: Atelectasis | None = None
    pleura: PleuralChange | None = None
    fracture: RibFracture | None = None
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
            "Enlarged Cardiomediastinum": self.mediastinum is not None,
            "Lung Opacity": self.opacity is not None,
            "Edema": self.edema is not None,
            "Atelectasis": self.atelectasis is not None,
            "Pleural Other": self.pleura is not None,
            "Fracture": self.fracture is not None,
        }
        return frozenset(name for name, shown in present.items() if shown)


def lobe_side(lobe: Lobe) -> Side:
    """The side a lobe belongs to; the lingula is part of the left lung."""
    return "right" if lobe.startswith("right") else "left"


def zones_of(lobe: Lobe) -> tuple[Zone, ...]:
    """The zones of its lung that a lobe reaches into."""
    return _ZONE_OF_LOBE[lobe]


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
    seen: View = pick(rng, VIEWS, (0.50, 0.35, 0.15)) if view is None else view
    effusion = _effusion(rng, "Pneumothorax" in findings) if "Pleural Effusion" in findings else {}
    pneumothorax: tuple[Side, Size] | None = None
    if "Pneumothorax" in findings:
        free = [side for side in SIDES if side not in effusion]
        pneumothorax = (pick(rng, free), pick(rng, SIZES, (0.3, 0.4, 0.3)))
    collapsed = pneumothorax[0] if pneumothorax else None
    lobes = [
        lobe
        for lobe in LOBES
        if lobe_side(lobe) != collapsed
        and not (lobe in _LOWER and effusion.get(lobe_side(lobe), "none") != "none")
        and effusion.get(lobe_side(lobe)) != "large"
    ]
    consolidation = pick(rng, lobes) if "Consolidation" in findings and lobes else None
    return ChestSpec(
        view=seen,
        effusion=effusion,
        cardiomegaly=pick(rng, SIZES, (0.35, 0.4, 0.25)) if "Cardiomegaly" in findings else None,
        pneumothorax=pneumothorax,
        consolidation=consolidation,
        nodule=(
            _nodule(rng, effusion, collapsed, consolidation) if "Lung Lesion" in findings else None
        ),
        devices=_devices(rng, seen) if "Support Devices" in findings else (),
        device_side=pick(rng, SIDES),
        habitus=habitus or sample_habitus(rng),
    )


def pick(
    rng: np.random.Generator, choices: Sequence[T], weights: Sequence[float] | None = None
) -> T:
    """One of ``choices``, all equally likely or by ``weights``."""
    return choices[int(rng.choice(len(choices), p=weights))]


def _effusion(rng: np.random.Generator, one_side: bool) -> dict[Side, Size]:
    if not one_side and rng.random() < 0.2:
        size = pick(rng, SIZES[:2])
        return {"right": size, "left": size}
    return {pick(rng, SIDES): pick(rng, SIZES, (0.3, 0.4, 0.3))}


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
    side, zone = pick(rng, places)
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
        return pick(rng, kits)
    return pick(rng, (("pacemaker",), ("pacemaker",), ("port",), ("PICC",)))
