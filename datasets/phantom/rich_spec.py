"""What a chest phantom of rich anatomy shows: twelve findings, and more kinds of bodies.

As with the simple one, a finding that could not be seen behind the others is left out.
"""

from dataclasses import replace

import numpy as np

from arra_med.datasets.phantom.findings import (
    FINDINGS,
    PLEURAL_KINDS,
    SIDES,
    SIZES,
    ZONES,
    Atelectasis,
    ChestSpec,
    Habitus,
    Lobe,
    Opacity,
    PleuralChange,
    RibFracture,
    Side,
    Size,
    View,
    Zone,
    lobe_side,
    pick,
    sample_spec,
    zones_of,
)

_BOTH = 0.22
"""How often a finding that can affect both lungs does."""
_COLLAPSIBLE: tuple[Lobe, ...] = (
    "right upper lobe", "right lower lobe", "left upper lobe", "left lower lobe",
)  # fmt: skip
_ZONE_OF_RIB: dict[int, Zone] = {3: "upper", 4: "upper", 5: "mid", 6: "mid", 7: "mid"}


def sample_rich_habitus(rng: np.random.Generator) -> Habitus:
    """A random adult: thin to obese, young to old, some bent, some with emphysema."""
    female = rng.random() < 0.48
    age = int(rng.integers(19, 95))
    old = np.clip((age - 45) / 45, 0, 1)
    emphysema = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.06 + 0.14 * old else 0.0
    fat = float(rng.beta(1.3, 2.2)) * 1.6 - 0.25
    if emphysema:
        fat = min(fat, 0.4)
    scoliosis = rng.random() < 0.15
    return Habitus(
        width=rng.uniform(0.87, 1.0) if female else rng.uniform(0.94, 1.10),
        length=rng.uniform(0.90, 1.08) - 0.05 * max(fat - 0.6, 0) + 0.10 * emphysema,
        fat=fat,
        breasts=rng.uniform(0.3, 1.3) if female else 0.0,
        heart=rng.uniform(0.92, 1.06) - 0.08 * emphysema,
        age=age,
        bend=rng.normal(0, 1.3) if scoliosis else rng.normal(0, 0.25),
        kyphosis=rng.uniform(0.8, 1.15) + 0.7 * old * rng.random(),
        emphysema=emphysema,
    )


def sample_rich_spec(
    rng: np.random.Generator,
    *,
    findings: frozenset[str],
    view: View | None = None,
    habitus: Habitus | None = None,
) -> ChestSpec:
    """Draw a specification in which every finding can be seen.

    Args:
        rng: where the randomness comes from.
        findings: which of the rich findings to show; one that the others would hide is left out.
        view: PA, AP or lateral in proportions 50 : 35 : 15 if not given.
        habitus: a random rich body if not given.
    """
    spec = sample_spec(
        rng,
        findings=findings & frozenset(FINDINGS),
        view=view,
        habitus=habitus or sample_rich_habitus(rng),
    )
    if "Enlarged Cardiomediastinum" in findings:
        spec = replace(spec, mediastinum=pick(rng, SIZES, (0.25, 0.4, 0.35)))
    if "Atelectasis" in findings:
        spec = replace(spec, atelectasis=_atelectasis(rng, spec))
    if "Lung Opacity" in findings:
        spec = replace(spec, opacity=_opacity(rng, spec))
    if "Edema" in findings:
        # alveolar edema would swallow any other shadow in the lungs
        dense = spec.consolidation or spec.opacity or spec.nodule
        sizes = SIZES[:2] if dense else SIZES
        spec = replace(spec, edema=pick(rng, sizes))
    if "Pleural Other" in findings:
        spec = replace(spec, pleura=_pleura(rng, spec))
    if "Fracture" in findings:
        spec = replace(spec, fracture=_fracture(rng, spec))
    return spec


def _sides(rng: np.random.Generator, free: list[Side]) -> tuple[Side, ...]:
    if len(free) == 2 and rng.random() < _BOTH:
        return SIDES
    return (pick(rng, free),)


def _atelectasis(rng: np.random.Generator, spec: ChestSpec) -> Atelectasis | None:
    """Plates in a base that is neither under fluid nor dense, or a whole lobe."""
    quiet = [side for side in SIDES if side not in spec.effusion and side != _airless(spec)]
    lobes = [
        lobe
        for lobe in _COLLAPSIBLE
        if lobe_side(lobe) in quiet
        and not (spec.consolidation and lobe_side(spec.consolidation) == lobe_side(lobe))
        and not (spec.nodule and spec.nodule.side == lobe_side(lobe))
        and not ("upper" in lobe and spec.mediastinum)
        and not ("lower" in lobe and spec.cardiomegaly)
    ]
    if lobes and rng.random() < 0.5:
        lobe = pick(rng, lobes)
        return Atelectasis(sides=(lobe_side(lobe),), lobe=lobe, size=pick(rng, SIZES[1:]))
    bases = [side for side in quiet if "lower" not in _dense_zones(spec, side)]
    if not bases:
        return None
    return Atelectasis(sides=_sides(rng, bases), lobe=None, size=pick(rng, SIZES[:2]))


def _opacity(rng: np.random.Generator, spec: ChestSpec) -> Opacity | None:
    clear = {side: _clear_zones(spec, side) for side in SIDES}
    zones = [zone for zone in ZONES if any(zone in clear[side] for side in SIDES)]
    if not zones:
        return None
    zone = pick(rng, zones)
    free = [side for side in SIDES if zone in clear[side]]
    return Opacity(sides=_sides(rng, free), zone=zone, size=pick(rng, SIZES, (0.3, 0.4, 0.3)))


def _pleura(rng: np.random.Generator, spec: ChestSpec) -> PleuralChange | None:
    free = [
        side
        for side in SIDES
        if spec.effusion.get(side) in (None, "small") and side != _airless(spec)
    ]
    if not free:
        return None
    kind = pick(rng, PLEURAL_KINDS)
    collapsed = spec.atelectasis.lobe if spec.atelectasis else None
    if kind == "apical" and collapsed and "upper" in collapsed:
        kind = "plaques"
    return PleuralChange(kind=kind, sides=_sides(rng, free), size=pick(rng, SIZES))


def _fracture(rng: np.random.Generator, spec: ChestSpec) -> RibFracture | None:
    """Ribs that lie over air."""
    places = [
        (side, first)
        for side in SIDES
        for first, zone in _ZONE_OF_RIB.items()
        if zone in _clear_zones(spec, side, nodules=False)
    ]
    if not places:
        return None
    side, first = pick(rng, places)
    return RibFracture(side=side, first=first, count=pick(rng, (1, 2, 3), (0.2, 0.4, 0.4)))


def _airless(spec: ChestSpec) -> Side | None:
    return spec.pneumothorax[0] if spec.pneumothorax else None


def _dense_zones(spec: ChestSpec, side: Side) -> frozenset[Zone]:
    """Zones of a side that a consolidation or a collapsed lobe whitens."""
    lobes = [spec.consolidation, spec.atelectasis.lobe if spec.atelectasis else None]
    return frozenset(
        zone for lobe in lobes if lobe and lobe_side(lobe) == side for zone in zones_of(lobe)
    )


def _clear_zones(spec: ChestSpec, side: Side, *, nodules: bool = True) -> tuple[Zone, ...]:
    """Zones of a side that hold air in which something can be seen."""
    if side == _airless(spec):
        return ()
    above: dict[Size | None, tuple[Zone, ...]] = {
        None: ZONES, "small": ("upper", "mid"), "moderate": ("upper",), "large": (),
    }  # fmt: skip
    taken = set(_dense_zones(spec, side))
    if spec.atelectasis and spec.atelectasis.lobe is None and side in spec.atelectasis.sides:
        taken.add("lower")
    if nodules and spec.nodule and spec.nodule.side == side:
        taken.add(spec.nodule.zone)
    return tuple(zone for zone in above[spec.effusion.get(side)] if zone not in taken)
