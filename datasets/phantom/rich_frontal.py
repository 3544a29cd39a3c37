"""The chest from the front in rich anatomy: absorption of a PA or AP film.

Built on the lines of the simple one, with more kinds of bodies, vessels and textures that differ
by patient, and twelve findings. Negative x is the patient's right; centimetres of an average adult.
"""

from dataclasses import replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from arra_med.datasets.phantom.canvas import Array, Canvas, Points, curve, forest, step
from arra_med.datasets.phantom.chest_anatomy import (
    APEX,
    SIGN,
    FrontalAnatomy,
    frontal_anatomy,
    heart_outline,
    lung_outline,
)
from arra_med.datasets.phantom.chest_devices import frontal_devices
from arra_med.datasets.phantom.chest_frontal import airway
from arra_med.datasets.phantom.findings import ChestSpec, Side, Size
from arra_med.datasets.phantom.rich_frontal_bones import frontal_bones
from arra_med.datasets.phantom.rich_frontal_findings import Lung, suffer

MEDIASTINUM: dict[Size | None, float] = {None: 1.0, "small": 1.55, "moderate": 1.9, "large": 2.3}
"""Magnification of the upper mediastinum by how much it is said to be widened."""
_COLLAPSE_LIFT: dict[Size, float] = {"small": 0.6, "moderate": 2.2, "large": 3.2}


def rich_frontal_absorption(
    canvas: Canvas, spec: ChestSpec, rng: np.random.Generator, disease: np.random.Generator
) -> Array:
    """Absorption of a PA or AP film, ``(size, size)`` float32, about 0 (air) to 1.2 (metal).

    Args:
        canvas: where.
        spec: what is there.
        rng: for the body.
        disease: for the findings.
    """
    layout, flesh, growing, texture, skeleton = rng.spawn(5)
    anatomy = rich_frontal_anatomy(spec, layout)
    body, tissue = _soft_tissue(canvas, spec, anatomy, flesh)
    heart = canvas.fill(_heart(anatomy, layout), edge=0.25)
    streams = disease.spawn(2)
    interstitium = _interstitium(canvas, spec, texture)
    absorption = tissue
    air = np.zeros_like(tissue)
    vessels = _vessels(canvas, spec, anatomy, growing)
    for side, stream in zip(SIGN, streams, strict=True):
        lung = _healthy_lung(canvas, spec, anatomy, side, heart, vessels, growing)
        suffer(canvas, spec, anatomy, lung, stream)
        lung.air *= 1 - 0.90 * heart
        absorption = absorption * (1 - 0.74 * lung.air)
        seen = np.clip(lung.air, 0, 1)
        absorption += seen * (0.16 * lung.vessels + interstitium) + lung.extra
        air += lung.air
    floor = step(anatomy.dome["right"] + 1.5 - canvas.y, 5.0)
    absorption += 0.10 * heart * step(canvas.y - 10, 9.0) * floor
    absorption -= 0.11 * airway(canvas, anatomy)
    absorption += body * frontal_bones(canvas, spec, anatomy, air, skeleton)
    frontal_devices(canvas, spec, anatomy.shift, anatomy.dome["left"], absorption)
    return np.asarray(absorption, np.float32)


def rich_frontal_anatomy(spec: ChestSpec, rng: np.random.Generator) -> FrontalAnatomy:
    """Lay out a body: barrel or bell-shaped chests, flat domes of overblown lungs, an old aorta."""
    body = spec.habitus
    base = frontal_anatomy(spec, rng)
    flare, barrel = rng.normal(0, 0.035), rng.normal(0, 0.03) + 0.05 * body.emphysema
    heights = base.wall.x
    along = (heights - heights[0]) / (base.dome["right"] - heights[0])
    shaped = base.wall(heights) * (
        1 + flare * (along - 0.5) + barrel * np.exp(-(((along - 0.35) / 0.3) ** 2))
    )
    depth = {side: rng.uniform(2.6, 4.4) * (1 - 0.5 * body.emphysema) for side in SIGN}
    push = base.shift
    dome = dict(base.dome)
    dome["left"] = dome["right"] + rng.uniform(0.1, 1.7)
    if spec.atelectasis and spec.atelectasis.lobe:  # towards the lung that lost volume
        strength = {"small": 0.0, "moderate": 0.5, "large": 1.2}[spec.atelectasis.size]
        push += SIGN[spec.atelectasis.sides[0]] * strength
    return replace(
        base,
        wall=PchipInterpolator(heights, shaped),
        dome=dome,
        angle={side: dome[side] + depth[side] for side in dome},
        shift=push,
        aorta=base.aorta * rng.uniform(0.9, 1.12),
        mediastinum=MEDIASTINUM[spec.mediastinum] * rng.uniform(0.92, 1.06),
    )


def _heart(anatomy: FrontalAnatomy, rng: np.random.Generator) -> Points:
    """Heart and great vessels, no two bodies quite the same."""
    outline = heart_outline(anatomy)
    low = np.clip((outline[:, 1] - 15) / 6, 0, 1)
    left, right = rng.normal(0, 0.035), rng.normal(0, 0.06)
    outline[:, 0] *= 1 + low * np.where(outline[:, 0] > 0, left, right)
    return outline


def _soft_tissue(
    canvas: Canvas, spec: ChestSpec, anatomy: FrontalAnatomy, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The body's silhouette, and its absorption without lungs and bones."""
    body = spec.habitus
    supine = spec.view == "AP"
    w, fat = body.width, body.fat
    slope = rng.normal(0, 0.7)
    arm = rng.uniform(-0.8, 1.2)
    flank, lift = 14.9 * w + 2.2 * fat, (1.3 if supine else 0.0) + slope
    neck = 3.5 + 0.7 * fat
    half = [(neck, -3.0), (neck + 0.3, 2.2), (6.5 + 0.6 * fat, 4.4 - 0.5 * lift),
            (12.5, 6.0 - lift), (18.5 + 0.7 * fat, 7.6 - lift),
            (23.0 + 0.7 * fat, 11.5 - lift), (24.0 + fat, 18.0)]  # fmt: skip
    # in bed the arms lie beside the chest, standing they are turned away from it
    half += [(24.0 + fat, 46.0)] if supine else [
        (flank + 1.9, 15.5 + arm), (flank + 0.6, 19.0 + arm), (flank + 0.3, 25.0),
        (flank + 0.4 + 0.4 * fat, 32.0), (flank + 0.8 + fat, 46.0),
    ]  # fmt: skip
    right = np.array(half)
    outline = np.concatenate([curve(right, num=90), curve((right * (-1, 1))[::-1], num=90)])
    silhouette = canvas.fill(outline, edge=0.15)
    depth = np.sqrt(np.clip(1 - (canvas.x / (flank + 5.5)) ** 2, 0.05, 1))
    level = 0.30 + 0.09 * fat + 0.31 * depth
    level -= 0.10 * np.exp(-(((canvas.y - 3.5) / 4.0) ** 2))  # the neck is thin
    level += 0.13 * step(canvas.y - anatomy.dome["right"] - 2.0, 9.0)
    level += 0.09 * np.exp(-((canvas.x / 2.8) ** 2))
    level += 0.015 * canvas.noise(rng, 9.0)
    if body.breasts:
        sag = rng.uniform(-1.0, 1.5)
        for sign in (-1, 1):
            x0, y0 = sign * 7.6 * w, anatomy.dome["right"] - 4.2 + 1.5 * fat + sag
            radius = np.hypot((canvas.x - x0) / (6.2 * w), (canvas.y - y0) / 5.8)
            level += 0.075 * body.breasts * step(1 - radius, 0.5) * step(y0 + 5.6 - canvas.y, 1.5)
    _gas(canvas, anatomy, supine, level, rng)
    return silhouette, np.asarray(silhouette * level, np.float32)


def _gas(
    canvas: Canvas, anatomy: FrontalAnatomy, supine: bool, level: Array, rng: np.random.Generator
) -> None:
    """Air in stomach and bowel, in place: no two films have the same."""
    x, wide, high = rng.uniform(4.5, 8.5), rng.uniform(1.5, 3.6), rng.uniform(0.7, 1.9)
    there = 0.0 if rng.random() < (0.7 if supine else 0.15) else rng.uniform(0.08, 0.2)
    radius = np.hypot((canvas.x - x) / wide, (canvas.y - anatomy.dome["left"] - 1.2 - high) / high)
    level -= there * step(1 - radius, 0.7)
    loops = rng.uniform((-11, 4.5, 1.0), (11, 10.0, 2.2), (4, 3))
    loops[:, 1] += anatomy.dome["right"]
    faint = rng.uniform(0, 0.09, 4) * (rng.random(4) < 0.5)
    for (x, y, size), strength in zip(loops, faint, strict=True):
        level -= strength * step(1 - np.hypot((canvas.x - x) / size, (canvas.y - y) / size), 0.8)


def _interstitium(canvas: Canvas, spec: ChestSpec, rng: np.random.Generator) -> Array:
    """Fine mottle of lungs, coarser and stronger in some patients; about -0.06 to 0.06."""
    old = np.clip((spec.habitus.age - 40) / 50, 0, 1)
    strength = rng.uniform(0.5, 1.2) * (1 + 0.5 * old)
    grains = [canvas.noise(rng, grain) for grain in (0.35, 0.6, 1.1, 3.0)]
    weights = np.float32(strength) * rng.dirichlet([2, 3, 3, 2]).astype(np.float32)
    mottle = sum(weight * grain for weight, grain in zip(weights, grains, strict=True))
    bullae = 0.05 * spec.habitus.emphysema * step(canvas.noise(rng, 2.6) - 0.3, 0.8)
    return np.asarray(0.028 * mottle - bullae, np.float32)


def _healthy_lung(
    canvas: Canvas,
    spec: ChestSpec,
    anatomy: FrontalAnatomy,
    side: Side,
    heart: Array,
    vessels: Array,
    rng: np.random.Generator,
) -> Lung:
    """One lung before it suffers: how airy it is, its vessels, its hilum."""
    lifted = anatomy
    collapse = spec.atelectasis
    if collapse and side in collapse.sides and (collapse.lobe or len(collapse.sides) == 1):
        lift = _COLLAPSE_LIFT[collapse.size]
        lifted = replace(
            anatomy,
            dome={**anatomy.dome, side: anatomy.dome[side] - lift},
            angle={**anatomy.angle, side: anatomy.angle[side] - 0.6 * lift},
        )
    chest = canvas.fill(lung_outline(lifted, side), edge=0.13)
    heights = np.linspace(APEX, anatomy.dome["right"] + 6, 64)
    inward = np.interp(canvas.y, heights, anatomy.wall(heights)) - SIGN[side] * canvas.x
    wall = np.asarray(inward, np.float32)
    air = chest * (0.78 + 0.10 * step(wall, 6.0) + 0.07 * spec.habitus.emphysema)
    across = (canvas.x - SIGN[side] * 3.7 - anatomy.shift) * SIGN[side]
    down = canvas.y - anatomy.hilum(side)
    hilum = np.hypot((across - 0.25 * down) / rng.uniform(1.6, 2.2), down / rng.uniform(2.6, 3.6))
    root = np.exp(-1.6 * hilum**2) * (1 + 0.25 * canvas.noise(rng, 1.0))
    return Lung(
        side=side,
        chest=chest,
        wall=wall,
        heart=heart,
        outline=lifted,
        air=np.asarray(air, np.float32),
        vessels=vessels.copy(),
        extra=np.asarray(rng.uniform(0.10, 0.16) * root * chest, np.float32),
    )


def _vessels(
    canvas: Canvas, spec: ChestSpec, anatomy: FrontalAnatomy, rng: np.random.Generator
) -> Array:
    """Trees from both hila and small vessels between them; emphysema thins them out."""
    thin = 1 - 0.35 * spec.habitus.emphysema
    starts, headings, lengths, widths = _roots(anatomy, rng)
    lines, width = forest(
        rng, starts, headings, length=lengths, width=widths, depth=4, bend=0.32, spread=0.45,
        shrink=0.62,
    )  # fmt: skip
    starts, headings = _twigs(anatomy, rng)
    fine, narrow = forest(
        rng, starts, headings, length=1.8, width=0.26, depth=2, bend=0.5, spread=0.5
    )
    central = canvas.soften(canvas.ribbons(lines, width * thin), 0.07)
    layer = central + 0.55 * thin * canvas.ribbons(fine, narrow)
    return np.asarray(layer * rng.uniform(0.75, 1.15), np.float32)


def _roots(
    anatomy: FrontalAnatomy, rng: np.random.Generator
) -> tuple[Points, Points, Points, Points]:
    """Where arteries and veins leave both hila, towards where, how long and how wide they are."""
    num = int(rng.integers(8, 12))
    sign = np.repeat(list(SIGN.values()), num)
    hilum = np.repeat([anatomy.hilum(side) for side in SIGN], num)
    down = np.deg2rad(np.tile(np.linspace(-84, 86, num), 2) + rng.normal(0, 9, 2 * num))
    reach = (anatomy.dome["right"] - APEX) / 22
    lengths = reach * (3.6 + 1.3 * np.clip(np.sin(down), -0.3, 1))
    lengths *= rng.uniform(0.75, 1.2, 2 * num)
    # lower vessels are wider in a standing patient
    widths = (0.58 + 0.22 * np.sin(down)) * rng.uniform(0.75, 1.15, 2 * num)
    x = sign * (3.2 + 0.9 * np.cos(down) + rng.normal(0, 0.35, 2 * num)) + anatomy.shift
    y = hilum + 2.4 * np.sin(down) + rng.normal(0, 0.4, 2 * num)
    return np.stack([x, y], axis=1), np.where(sign > 0, down, np.pi - down), lengths, widths


def _twigs(anatomy: FrontalAnatomy, rng: np.random.Generator) -> tuple[Points, Points]:
    """Where small vessels lie in both lungs, and their headings: away from the hilum."""
    num = int(rng.integers(40, 80))
    sign = np.where(np.arange(num) % 2, 1, -1)
    y = APEX + (anatomy.dome["right"] - APEX) * rng.uniform(0.08, 1.0, num)
    x = 3.4 + (anatomy.wall(y) - 4.6) * rng.uniform(0.15, 0.95, num)
    away = np.arctan2(y - anatomy.hilum("right"), x - 3.0) + rng.normal(0, 0.5, num)
    return np.stack([sign * x, y], axis=1), np.where(sign > 0, away, np.pi - away)
