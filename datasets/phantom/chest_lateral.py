"""The chest from the side: how much X-ray each point of a lateral film absorbs.

The patient faces left: negative x is the front. Lengths are centimetres of an average adult.
"""

from dataclasses import dataclass

import numpy as np

from arra_med.datasets.phantom.canvas import Array, Canvas, Points, curve, forest, step
from arra_med.datasets.phantom.chest_anatomy import APEX, HEART_SIZE
from arra_med.datasets.phantom.chest_devices import lateral_devices
from arra_med.datasets.phantom.findings import ChestSpec, Lobe, Size

_LOBE_ELLIPSE: dict[Lobe, tuple[float, float, float, float]] = {
    "right upper lobe": (-1.5, 10.6, 6.0, 4.2),
    "left upper lobe": (-2.0, 11.0, 6.2, 4.4),
    "right middle lobe": (-4.6, 20.6, 5.0, 2.6),
    "lingula": (-4.8, 19.8, 4.8, 3.2),
    "right lower lobe": (5.0, 22.5, 4.2, 5.6),
    "left lower lobe": (5.2, 23.4, 4.2, 5.6),
}
LESION_PLACE = {"upper": (-1.0, 0.27), "mid": (4.0, 0.50), "lower": (4.8, 0.78)}


@dataclass(frozen=True, kw_only=True)
class LateralAnatomy:
    """The lines that a lateral drawing follows.

    Attributes:
        deep: factor on front-to-back lengths.
        dome: body y of the top of the diaphragm.
        angle: body y of the posterior costophrenic angle.
        heart: magnification of the heart.
        kyphosis: curvature of the spine, 1 is average.
    """

    deep: float
    dome: float
    angle: float
    heart: float
    kyphosis: float = 1.0


def lateral_absorption(
    canvas: Canvas, spec: ChestSpec, rng: np.random.Generator, disease: np.random.Generator
) -> Array:
    """Absorption of a lateral film, ``(size, size)`` float32, about 0 (air) to 1.2 (metal).

    Args:
        canvas: where.
        spec: what is there.
        rng: for the body.
        disease: for the findings.
    """
    dome = APEX + 19.5 * spec.habitus.length
    anatomy = LateralAnatomy(
        deep=0.96 + 0.10 * spec.habitus.fat,
        dome=dome,
        angle=dome + rng.uniform(6.2, 7.4),
        heart=spec.habitus.heart * HEART_SIZE[spec.cardiomegaly],
    )
    body, tissue = soft_tissue(canvas, spec, anatomy)
    heart = canvas.fill(heart_profile(anatomy), edge=0.35)
    chest = canvas.fill(profile_outline(anatomy), edge=0.18)
    air, vessels, extra = _lungs(canvas, spec, anatomy, chest, rng, disease)
    air = air * (1 - 0.62 * heart)
    air *= 1 + 0.025 * canvas.noise(rng, 0.3) + 0.03 * canvas.noise(rng, 1.0)
    absorption = np.asarray(tissue * (1 - 0.72 * air) + extra, np.float32)
    absorption += 0.06 * heart * step(anatomy.dome + 1 - canvas.y, 4.0)
    absorption += 0.20 * vessels * np.clip(air, 0, 1)
    hilum = np.hypot((canvas.x - 1.0) / 2.6, (canvas.y - 16.4) / 3.0)
    absorption += 0.14 * np.exp(-1.5 * hilum**2)
    airway = canvas.ribbons([curve([(0.0, -3), (0.7, 5), (1.7, 11), (2.0, 14.0)])], 1.7)
    absorption -= 0.12 * canvas.soften(airway, 0.2)
    absorption += body * bones(canvas, anatomy, rng)
    lateral_devices(canvas, spec, anatomy.dome, absorption)
    return absorption


def spine_x(y: Array | Points, anatomy: LateralAnatomy) -> Array:
    """x of the middle of the vertebral bodies at body y: the thoracic kyphosis."""
    return np.asarray(
        anatomy.deep * (7.4 - 2.6 * anatomy.kyphosis * ((y - 16) / 17) ** 2), np.float32
    )


def soft_tissue(canvas: Canvas, spec: ChestSpec, anatomy: LateralAnatomy) -> tuple[Array, Array]:
    """The body's silhouette with raised arms, and its absorption without lungs and bones."""
    d, fat = anatomy.deep, spec.habitus.fat
    bosom, front = 2.6 * spec.habitus.breasts, 10.2 * d + 1.2 * fat
    outline = np.array(
        [(-9.5, -4), (-7.8, 2.0), (-8.2, 5.5), (-front + 0.6, 9.0), (-front - 0.2, 13),
         (-front - 0.5 - bosom, 19.5), (-front - 0.8 - 0.7 * bosom, 23), (-front - 0.4, 27),
         (-front - 1.2 * fat, 33), (-front - 2 * fat, 44), (9.5 * d + fat, 44),
         (10.4 * d + fat, 33), (11.6 * d + fat, 24), (12.2 * d + fat, 16), (11.4 * d + fat, 9),
         (10.4, 4.5), (9.6, 0.0), (10.5, -4)]
    )  # fmt: skip
    silhouette = canvas.fill(curve(outline, num=220, closed=True), edge=0.15)
    across = np.abs(canvas.x - 0.5) / (14.0 * d)
    level = 0.42 + 0.10 * fat + 0.26 * np.sqrt(np.clip(1 - across**2, 0, 1))
    shoulder = np.hypot((canvas.x - 1.0) / 9.5, (canvas.y - 1.5) / 7.5)
    level += 0.17 * step(1.1 - shoulder, 1.2)
    level += 0.14 * step(canvas.y - anatomy.dome - 2.0, 6.0)
    gas = np.hypot((canvas.x + 1.5) / 2.8, (canvas.y - anatomy.dome - 4.0) / 1.3)
    level -= 0.13 * step(1 - gas, 0.8)
    return silhouette, np.asarray(silhouette * level, np.float32)


def _lungs(
    canvas: Canvas,
    spec: ChestSpec,
    anatomy: LateralAnatomy,
    chest: Array,
    rng: np.random.Generator,
    disease: np.random.Generator,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Both lungs over each other: how airy they are, their vessels, and further absorption."""
    air = np.asarray(chest * (0.82 + 0.012 * (canvas.y - 16)), np.float32)
    vessels = canvas.ribbons(*_vessels(rng))
    extra = np.zeros_like(chest)
    if spec.consolidation:
        filled = consolidated_profile(canvas, anatomy, spec.consolidation, disease)
        air *= 1 - 0.66 * filled
        extra += (0.07 - 0.10 * canvas.soften(vessels, 0.1)) * filled * chest
    if spec.nodule:
        x0, share = LESION_PLACE[spec.nodule.zone]
        away = np.hypot(
            canvas.x - x0 * anatomy.deep - disease.uniform(-0.8, 0.8),
            canvas.y - APEX - share * (anatomy.dome - APEX) - disease.uniform(-0.5, 0.5),
        )
        lump = step(spec.nodule.diameter / 2 - away, 0.6)
        vessels *= 1 - 0.8 * lump
        extra += 0.30 * lump
    if spec.pneumothorax:
        air, vessels, line = let_air_in_profile(
            canvas, anatomy, spec.pneumothorax[1], chest, air, vessels
        )
        extra += line
    for size in spec.effusion.values():
        air = air * (1 - 0.92 * fluid_profile(canvas, anatomy, size))
    return air, vessels, extra


def let_air_in_profile(
    canvas: Canvas,
    anatomy: LateralAnatomy,
    size: Size,
    chest: Array,
    air: Array,
    vessels: Array,
) -> tuple[Array, Array, Array]:
    """A pneumothorax: air and vessels of the shrunken lung, and the absorption of its pleura."""
    outline = profile_outline(anatomy, {"small": 1.6, "moderate": 2.8, "large": 4.4}[size])
    lung = canvas.fill(outline, edge=0.1) * chest
    line = canvas.ribbons([np.concatenate([outline, outline[:1]])], 0.2)
    fade = step(anatomy.dome - 3 - canvas.y, 2.0) * step(5.0 - canvas.x, 2.0)
    pleura = 0.19 * canvas.soften(line, 0.05) * chest * fade
    shrunk = np.asarray(chest * (1 - lung) * 1.1 + air * lung * 0.9, np.float32)
    return shrunk, vessels * lung, pleura


def fluid_profile(canvas: Canvas, anatomy: LateralAnatomy, size: Size) -> Array:
    """Fluid behind the lung, its surface climbing along the back."""
    depth = {"small": 3.8, "moderate": 7.8, "large": 13.0}[size]
    forward = np.clip(spine_x(canvas.y, anatomy) + 1.8 - canvas.x, 0, None)
    surface = anatomy.angle - depth + 2.4 * (1 - np.exp(-forward / 2.5))
    return step(canvas.y - surface, 0.9)


def profile_outline(anatomy: LateralAnatomy, rim: float = 0.0) -> Points:
    """Both lungs in profile; ``rim`` is the width of the air in front of and above them."""
    d, dome, angle = anatomy.deep, anatomy.dome, anatomy.angle
    points = np.array(
        [(0.5 + 0.4 * rim, 5.6 + 1.2 * rim), (-4.6 * d + 0.9 * rim, 7.6 + rim),
         (-7.6 * d + 1.1 * rim, 11.5 + 0.5 * rim), (-8.7 * d + 1.2 * rim, 17),
         (-8.9 * d + 1.0 * rim, dome - 2), (-8.4 * d + 0.8 * rim, dome + 1.0),
         (-5.5 * d, dome - 0.3), (-2.0 * d, dome), (2.5 * d, dome + 1.3), (6.0 * d, dome + 3.8),
         (8.4 * d, angle), (9.4 * d, angle - 2.5), (10.0 * d, dome), (10.2 * d, 17),
         (9.2 * d, 11), (5.8 * d, 7.2 + 0.6 * rim)]
    )  # fmt: skip
    return curve(points, num=180, closed=True)


def heart_profile(anatomy: LateralAnatomy) -> Points:
    """The heart in profile, ``(120, 2)``; a large one grows back and up."""
    floor = anatomy.dome
    shape = np.array(
        [(-2.0, 12.5), (-5.0, 16.0), (-7.6, 19.6), (-8.6, floor - 2.0), (-8.0, floor + 2.0),
         (-2.5, floor + 3.0), (1.0, floor - 0.5), (2.0, floor - 4.0), (1.4, 17.5), (0.6, 12.5)]
    )  # fmt: skip
    low = np.clip((shape[:, 1] - 13) / 5, 0, 1)
    shape[:, 0] = -8.6 + (shape[:, 0] + 8.6) * (1 + 0.9 * (anatomy.heart - 1) * low)
    shape[:, 1] -= (anatomy.heart - 1) * 2.5 * low * (shape[:, 1] < floor - 3)
    return curve(shape * (anatomy.deep, 1), num=120, closed=True)


def _vessels(rng: np.random.Generator) -> tuple[Points, Points]:
    degrees = np.array([-125, -100, -70, -40, -5, 25, 48, 66, 84, 105, 140, 175, 205])
    headings = np.deg2rad(degrees + rng.normal(0, 9, len(degrees)))
    away = rng.uniform(0.6, 2.0, len(degrees))
    starts = np.stack([1.0 + away * np.cos(headings), 16.4 + 1.2 * away * np.sin(headings)], axis=1)
    lengths = rng.uniform(2.8, 4.6, len(degrees))
    return forest(rng, starts, headings, length=lengths, width=0.46, depth=5, bend=0.3, shrink=0.7)


def consolidated_profile(
    canvas: Canvas, anatomy: LateralAnatomy, lobe: Lobe, rng: np.random.Generator
) -> Array:
    """Where a lobe holds fluid instead of air."""
    x0, y0, rx, ry = _LOBE_ELLIPSE[lobe]
    squeeze = (anatomy.dome - APEX) / 19.5
    y0 = APEX + (y0 - APEX) * squeeze
    away = np.hypot((canvas.x - x0 * anatomy.deep) / rx, (canvas.y - y0) / (ry * squeeze))
    ragged = canvas.noise(rng, 2.6) * 0.13 + canvas.noise(rng, 0.9) * 0.08
    return step(0.97 - away + ragged, 0.5)


def bones(canvas: Canvas, anatomy: LateralAnatomy, rng: np.random.Generator) -> Array:
    """Spine behind, sternum in front, ribs of both sides, edges of the scapulae."""
    strength = rng.uniform(0.85, 1.15)
    off = canvas.x - spine_x(canvas.y, anatomy)
    discs = np.cos(2 * np.pi * (canvas.y - 0.25 * off - 5) / 2.5)
    layer = step(1.5 - np.abs(off), 0.5) * (0.115 + 0.075 * np.clip(discs + 0.35, -0.9, 0.4))
    layer += 0.06 * step(1.3 - np.abs(off - 3.0), 1.4) * np.clip(discs, 0, 1)
    d = anatomy.deep
    sternum = curve([(-7.4 * d, 8.4), (-9.2 * d, 12.5), (-9.9 * d, 18), (-9.7 * d, 24.5)])
    plate = canvas.ribbons([sternum], [(1.3, 0.4)])
    ribs: list[Points] = []
    for shift in (0.0, 0.9):  # the two sides never cover each other exactly
        for rib in range(8):
            y = 7.0 + 2.35 * rib + shift
            back = float(spine_x(np.array([y]), anatomy)[0]) + 1.4
            line = curve([(back, y), (back - 0.6, y + 1.6), (back - 4.0, y + 4.0),
                          (back - 9.5, y + 5.4), (-8.8 * d, y + 4.8)])  # fmt: skip
            ribs.append(line)
    above = step(anatomy.dome + 4 - canvas.y, 5.0) * strength
    layer += above * 0.050 * canvas.ribbons(ribs, [(0.95, 0.6)])
    layer += above * 0.035 * canvas.ribbons(np.add(ribs, (0, 0.4)), 0.22)
    blades = [curve([(x - 2.0, 5.5), (x - 0.6, 10.0), (x, 15.5)]) for x in (6.3, 7.6)]
    layer += 0.08 * canvas.ribbons(blades, 0.35) + 0.11 * canvas.soften(plate, 0.12)
    return canvas.soften(np.asarray(layer, np.float32), 0.1)
