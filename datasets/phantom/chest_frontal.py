"""The chest from the front: how much X-ray each point of a PA or AP film absorbs.

Negative x is the patient's right. Lengths are centimetres of an average adult.
"""

import numpy as np

from arra_med.datasets.phantom.canvas import Array, Canvas, Points, curve, forest, normals, step
from arra_med.datasets.phantom.chest_anatomy import (
    APEX,
    SIGN,
    FrontalAnatomy,
    frontal_anatomy,
    heart_outline,
    lung_outline,
    rib_lines,
)
from arra_med.datasets.phantom.chest_devices import frontal_devices
from arra_med.datasets.phantom.findings import ChestSpec, Lobe, Side, Size, lobe_side

# Lobes on the film: middle and radii in centimetres at average height; x without its side's sign.
_LOBE_ELLIPSE: dict[Lobe, tuple[float, float, float, float]] = {
    "right upper lobe": (7.0, 12.2, 6.0, 5.6),
    "right middle lobe": (5.8, 22.0, 5.0, 4.2),
    "right lower lobe": (9.0, 24.8, 5.2, 5.6),
    "left upper lobe": (7.0, 11.8, 5.8, 5.4),
    "lingula": (8.4, 20.2, 4.8, 4.2),
    "left lower lobe": (8.4, 25.0, 6.0, 5.4),
}
LESION_PLACE = {"upper": (6.3, 0.28), "mid": (8.8, 0.52), "lower": (9.8, 0.76)}


def frontal_absorption(
    canvas: Canvas, spec: ChestSpec, rng: np.random.Generator, disease: np.random.Generator
) -> Array:
    """Absorption of a PA or AP film, ``(size, size)`` float32, about 0 (air) to 1.2 (metal).

    Args:
        canvas: where.
        spec: what is there.
        rng: for the body.
        disease: for the findings.
    """
    anatomy = frontal_anatomy(spec, rng)
    body, tissue = _soft_tissue(canvas, spec, anatomy)
    heart = canvas.fill(heart_outline(anatomy), edge=0.2)
    sides = [_lung(canvas, spec, anatomy, side, heart, rng, disease) for side in SIGN]
    air, vessels, extra = (sum(layers[1:], layers[0]) for layers in zip(*sides, strict=True))
    air = air * (1 - 0.92 * heart)
    air *= 1 + canvas.noise(rng, 0.3) * 0.025 + canvas.noise(rng, 0.9) * 0.025
    floor = step(anatomy.dome["right"] + 1.5 - canvas.y, 5.0)
    absorption = tissue * (1 - 0.76 * air)
    absorption += 0.10 * heart * step(canvas.y - 10, 9.0) * floor
    absorption += 0.20 * vessels * np.clip(air, 0, 1) + extra
    absorption -= 0.12 * airway(canvas, anatomy)
    absorption += body * _bones(canvas, spec, anatomy, air, rng)
    frontal_devices(canvas, spec, anatomy.shift, anatomy.dome["left"], absorption)
    return np.asarray(absorption, np.float32)


def _soft_tissue(canvas: Canvas, spec: ChestSpec, anatomy: FrontalAnatomy) -> tuple[Array, Array]:
    """The body's silhouette, and its absorption without lungs and bones."""
    body = spec.habitus
    supine = spec.view == "AP"
    w, fat = body.width, body.fat
    flank, lift = 14.6 * w + 2.2 * fat, 1.3 if supine else 0.0
    half = [(3.7, -3.0), (4.0, 2.2), (6.5, 4.4 - 0.5 * lift), (12.5, 6.0 - lift),
            (18.5, 7.6 - lift), (23.0, 11.5 - lift), (24.0, 18.0)]  # fmt: skip
    # in bed the arms lie beside the chest, standing they are turned away from it
    half += [(24.0, 46.0)] if supine else [
        (flank + 1.9, 15.5), (flank + 0.6, 19.0), (flank + 0.3, 25.0), (flank + 0.4, 32.0),
        (flank + 0.8, 46.0),
    ]  # fmt: skip
    right = np.array(half)
    outline = np.concatenate([curve(right, num=90), curve((right * (-1, 1))[::-1], num=90)])
    silhouette = canvas.fill(outline, edge=0.15)
    depth = np.sqrt(np.clip(1 - (canvas.x / (flank + 5.5)) ** 2, 0.05, 1))
    level = 0.29 + 0.10 * fat + 0.31 * depth
    level -= 0.10 * np.exp(-(((canvas.y - 3.5) / 4.0) ** 2))  # the neck is thin
    level += 0.13 * step(canvas.y - anatomy.dome["right"] - 2.0, 9.0)
    level += 0.09 * np.exp(-((canvas.x / 2.8) ** 2))
    if body.breasts:
        for sign in (-1, 1):
            x0, y0 = sign * 7.6 * w, anatomy.dome["right"] - 4.2 + 1.5 * fat
            radius = np.hypot((canvas.x - x0) / (6.0 * w), (canvas.y - y0) / 5.6)
            level += 0.07 * body.breasts * step(1 - radius, 0.5) * step(y0 + 5.6 - canvas.y, 1.5)
    if not supine:  # air in the stomach
        gas = np.hypot((canvas.x - 6.5) / 3.2, (canvas.y - anatomy.dome["left"] - 2.9) / 1.4)
        level -= 0.17 * step(1 - gas, 0.7)
    return silhouette, np.asarray(silhouette * level, np.float32)


def _lung(
    canvas: Canvas,
    spec: ChestSpec,
    anatomy: FrontalAnatomy,
    side: Side,
    heart: Array,
    rng: np.random.Generator,
    disease: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """One lung with what it suffers from: how airy it is, its vessels, and further absorption."""
    chest = canvas.fill(lung_outline(anatomy, side), edge=0.13)
    wall = from_wall(canvas, anatomy, side)
    air = chest * (0.78 + 0.10 * step(wall, 6.0))
    vessels = canvas.ribbons(*_lung_vessels(anatomy, side, rng))
    across = (canvas.x - SIGN[side] * 3.7 - anatomy.shift) * SIGN[side]
    down = canvas.y - anatomy.hilum(side)
    hilum = np.hypot((across - 0.25 * down) / 1.9, down / 3.2)
    extra = 0.13 * np.exp(-1.6 * hilum**2) * chest
    if spec.consolidation and lobe_side(spec.consolidation) == side:
        filled = consolidated(canvas, anatomy, spec.consolidation, disease)
        air = air * (1 - 0.84 * filled)
        bronchi = canvas.soften(vessels, 0.1)
        extra = extra + (0.06 - 0.10 * bronchi) * filled * chest * (1 - 0.75 * heart)
    if spec.nodule and spec.nodule.side == side:
        lump = nodule_mask(canvas, spec, anatomy, disease) * chest
        vessels *= 1 - 0.8 * lump
        extra = extra + 0.30 * lump
    if spec.pneumothorax and spec.pneumothorax[0] == side:
        air, vessels, line = let_air_in(
            canvas, anatomy, side, spec.pneumothorax[1], chest, air, vessels
        )
        extra = extra + line
    if side in spec.effusion:
        air = air * (1 - 0.97 * fluid_mask(canvas, spec, anatomy, side, wall))
    return np.asarray(air), vessels, np.asarray(extra, np.float32)


def let_air_in(
    canvas: Canvas,
    anatomy: FrontalAnatomy,
    side: Side,
    size: Size,
    chest: Array,
    air: Array,
    vessels: Array,
) -> tuple[Array, Array, Array]:
    """A pneumothorax: air and vessels of the shrunken lung, and the absorption of its pleura."""
    rim = {"small": 2.0, "moderate": 3.6, "large": 6.4}[size]
    shrunk = lung_outline(anatomy, side, rim)
    lung = canvas.fill(shrunk, edge=0.1) * chest
    squeezed = {"small": 0.92, "moderate": 0.84, "large": 0.60}[size]
    line = canvas.ribbons([np.concatenate([shrunk, shrunk[:1]])], 0.2)
    free = step(SIGN[side] * canvas.x - 2.6, 1.0) * step(anatomy.angle[side] - 4 - canvas.y, 2.0)
    pleura = 0.22 * canvas.soften(line, 0.05) * chest * free
    airy = np.asarray(chest * (1 - lung) * 1.10 + air * lung * squeezed, np.float32)
    return airy, vessels * lung, pleura


def from_wall(canvas: Canvas, anatomy: FrontalAnatomy, side: Side) -> Array:
    """Horizontal distance of every pixel from the inner chest wall, in centimetres."""
    heights = np.linspace(APEX, anatomy.dome["right"] + 6, 64)
    walls = np.interp(canvas.y, heights, anatomy.wall(heights))
    return np.asarray(walls - SIGN[side] * canvas.x, np.float32)


def _lung_vessels(
    anatomy: FrontalAnatomy, side: Side, rng: np.random.Generator
) -> tuple[Points, Points]:
    sign = SIGN[side]
    # lower vessels are wider and longer in a standing patient
    down = np.deg2rad(np.array([-80, -58, -34, -10, 14, 34, 52, 68, 84]) + rng.normal(0, 7, 9))
    lengths = np.array([3.6, 4.2, 4.0, 3.6, 4.0, 4.6, 5.0, 5.2, 4.8]) * rng.uniform(0.8, 1.15, 9)
    widths = np.array([0.40, 0.42, 0.34, 0.32, 0.40, 0.48, 0.56, 0.60, 0.50])
    starts = np.stack(
        [
            sign * (3.0 + 0.9 * np.cos(down) + rng.normal(0, 0.3, 9)) + anatomy.shift,
            anatomy.hilum(side) + 2.4 * np.sin(down) + rng.normal(0, 0.4, 9),
        ],
        axis=1,
    )
    return forest(
        rng, starts, down if sign > 0 else np.pi - down,
        length=lengths, width=widths, depth=5, bend=0.28, spread=0.42, shrink=0.7,
    )  # fmt: skip


def consolidated(
    canvas: Canvas, anatomy: FrontalAnatomy, lobe: Lobe, rng: np.random.Generator
) -> Array:
    """Where a lobe holds fluid instead of air; right upper and middle meet at the fissure."""
    x0, y0, rx, ry = _LOBE_ELLIPSE[lobe]
    squeeze = (anatomy.dome["right"] - APEX) / 22.0
    y0 = APEX + (y0 - APEX) * squeeze
    outwards = canvas.x if lobe_side(lobe) == "left" else -canvas.x
    distance = np.hypot((outwards - x0) / rx, (canvas.y - y0) / (ry * squeeze))
    ragged = canvas.noise(rng, 2.6) * 0.15 + canvas.noise(rng, 0.9) * 0.09
    mask = step(0.97 - distance + ragged, 0.5)
    fissure = APEX + 10.6 * squeeze - 0.08 * (outwards - 7)
    if lobe == "right upper lobe":
        mask *= step(fissure - canvas.y, 0.3)
    if lobe == "right middle lobe":
        mask *= step(canvas.y - fissure - 0.3, 0.3)
    patchy = 0.90 + 0.10 * np.clip(canvas.noise(rng, 1.2), -1.5, 1)
    return np.asarray(mask * patchy, np.float32)


def nodule_mask(
    canvas: Canvas, spec: ChestSpec, anatomy: FrontalAnatomy, rng: np.random.Generator
) -> Array:
    """A round lesion with slightly lobed edges, 1 inside."""
    assert spec.nodule is not None
    x0, share = LESION_PLACE[spec.nodule.zone]
    x0 = SIGN[spec.nodule.side] * (x0 * spec.habitus.width + rng.uniform(-0.9, 0.9))
    y0 = APEX + share * (anatomy.dome["right"] - APEX) + rng.uniform(-0.8, 0.8)
    dx, dy = canvas.x - x0, canvas.y - y0
    around = np.arctan2(dy, dx)
    lobes = 1 + 0.07 * np.sin(3 * around + rng.uniform(0, 6.28))
    lobes += 0.05 * np.sin(5 * around + rng.uniform(0, 6.28))
    return step(spec.nodule.diameter / 2 * lobes - np.hypot(dx, dy), 0.6)


def fluid_mask(
    canvas: Canvas, spec: ChestSpec, anatomy: FrontalAnatomy, side: Side, wall: Array
) -> Array:
    """Fluid with a meniscus: its surface climbs along the chest wall."""
    size = spec.effusion[side]
    depth, drop = {"small": (5.2, 3.6), "moderate": (10.0, 3.6), "large": (16.4, 3.2)}[size]
    inward = np.clip(wall, 0, None)
    surface = anatomy.angle[side] - depth + drop * (1 - np.exp(-inward / 3.2))
    below = np.asarray(canvas.y - surface, np.float32)
    fluid = step(below, 1.8 if spec.view == "AP" else 0.8)
    if spec.view == "AP" and size != "small":  # half lying, some fluid spreads behind the lung
        fluid = np.maximum(fluid, 0.35 * step(below + 4.0, 8.0))
    return fluid


def airway(canvas: Canvas, anatomy: FrontalAnatomy) -> Array:
    """Trachea and main bronchi: dark bands in the mediastinum."""
    carina, s = anatomy.hilum("right") - 2.6, anatomy.shift
    trachea = curve([(0, -3), (0.0, 5), (0.1 + 0.6 * s, carina - 3), (0.1 + s, carina + 0.3)])
    bronchi = [
        curve([(0.1 + s, carina - 0.4), (sign * 1.9 + s, carina + 1.3), (sign * 3.4 + s, drop)])
        for sign, drop in ((-1, carina + 2.6), (1, carina + 2.2))
    ]
    tree = np.maximum(canvas.ribbons([trachea], 1.7), 0.4 * canvas.ribbons(bronchi, 1.0))
    return canvas.soften(tree, 0.2)


def _bones(
    canvas: Canvas, spec: ChestSpec, anatomy: FrontalAnatomy, air: Array, rng: np.random.Generator
) -> Array:
    """Ribs (seen best over air), clavicles, scapulae, humeral heads, spine."""
    supine = spec.view == "AP"
    w = spec.habitus.width
    strength = rng.uniform(0.8, 1.2) * (1 - 0.25 * spec.habitus.fat)
    back, front = rib_lines(anatomy)
    seen = 0.30 + 0.70 * np.clip(air, 0, 1)
    ribs = 0.115 * tubes(canvas, back, 1.05) + 0.070 * tubes(canvas, front, 1.25)
    high = 1.5 if supine else 0.0
    collar = np.array([(1.5, 9.2), (4.5, 8.6), (9.0 * w, 6.8), (15.5 * w, 6.6)]) - (0, high)
    out = 11.0 if supine else 15.6  # shoulders rolled forward move the blades off the lungs
    blade = np.array(
        [(out + 4.6, 7.4), (out + 1.0, 7.8), (out - 1.6, 9.4), (out - 1.1, 14.0),
         (out + 0.8, 19.5), (out + 2.6, 15.0), (out + 4.4, 10.5)]
    ) * (w, 1) - (0, high / 2)  # fmt: skip
    pairs = [curve(collar * (sign, 1)) for sign in (-1, 1)]
    blades = [curve(blade * (sign, 1), num=60, closed=True) for sign in (-1, 1)]
    rims = canvas.ribbons([np.concatenate([b, b[:1]]) for b in blades], 0.4)
    layer = strength * (ribs * seen + 0.10 * tubes(canvas, np.array(pairs), 1.3))
    layer += strength * seen * (0.055 * canvas.paint(blades) + 0.07 * rims)
    head = np.hypot(np.abs(canvas.x) - 19.2 * w, canvas.y - 9.6 + high)
    shaft = step(1.3 - np.abs(np.abs(canvas.x) - 20.0 * w), 0.4) * step(canvas.y - 10, 2)
    layer += 0.10 * np.maximum(step(2.5 - head, 0.6), shaft)
    middle = np.abs(canvas.x - 0.1)
    discs = np.cos(2 * np.pi * (canvas.y - 5) / 2.45)
    column = step(1.7 - middle, 0.6)
    layer += column * (0.03 + 0.022 * np.clip(discs, -0.6, 1))
    layer += 0.03 * np.exp(-(((middle - 1.1) / 0.35) ** 2)) * np.clip(discs - 0.3, 0, 1)
    return canvas.soften(np.asarray(layer, np.float32), 0.08)


def tubes(canvas: Canvas, lines: Points, width: float) -> Array:
    """Bones of one width: marrow, and brighter cortex along both borders."""
    border = 0.42 * width * normals(lines)
    cortex = canvas.ribbons(np.concatenate([lines - border, lines + border]), 0.22)
    return 0.75 * canvas.ribbons(lines, width) + 0.55 * cortex
