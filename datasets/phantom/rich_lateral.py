"""The chest from the side in rich anatomy: absorption of a lateral film.

The patient faces left: negative x is the front. Lengths are centimetres of an average adult.
"""

import numpy as np

from arra_med.datasets.phantom.canvas import Array, Canvas, Points, curve, forest, step
from arra_med.datasets.phantom.chest_anatomy import APEX, HEART_SIZE
from arra_med.datasets.phantom.chest_devices import lateral_devices
from arra_med.datasets.phantom.chest_lateral import (
    LateralAnatomy,
    bones,
    heart_profile,
    profile_outline,
    soft_tissue,
    spine_x,
)
from arra_med.datasets.phantom.findings import ChestSpec, Size
from arra_med.datasets.phantom.rich_lateral_findings import suffer_in_profile
from arra_med.datasets.phantom.rich_layers import LungLayers

_WIDENING: dict[Size | None, float] = {None: 0.0, "small": 0.10, "moderate": 0.15, "large": 0.20}
"""Absorption that a widened mediastinum adds in front of and behind the airway."""


def rich_lateral_absorption(
    canvas: Canvas, spec: ChestSpec, rng: np.random.Generator, disease: np.random.Generator
) -> Array:
    """Absorption of a lateral film, ``(size, size)`` float32, about 0 (air) to 1.2 (metal).

    Args:
        canvas: where.
        spec: what is there.
        rng: for the body.
        disease: for the findings.
    """
    layout, growing, texture, skeleton = rng.spawn(4)
    anatomy = _anatomy(spec, layout)
    body, tissue = soft_tissue(canvas, spec, anatomy)
    heart = canvas.fill(heart_profile(anatomy), edge=0.35)
    lungs = _healthy_lungs(canvas, spec, anatomy, heart, growing)
    suffer_in_profile(canvas, spec, anatomy, lungs, disease)
    lungs.air *= 1 - 0.60 * heart
    absorption = np.asarray(tissue * (1 - 0.72 * lungs.air) + lungs.extra, np.float32)
    absorption += 0.06 * heart * step(anatomy.dome + 1 - canvas.y, 4.0)
    strength = np.float32(texture.uniform(0.010, 0.022))
    mottle = canvas.noise(texture, 0.5) + canvas.noise(texture, 1.0) + canvas.noise(texture, 3.0)
    absorption += np.clip(lungs.air, 0, 1) * (0.14 * lungs.vessels + strength * mottle)
    hilum = np.hypot((canvas.x - 1.0) / 2.6, (canvas.y - 16.4) / 3.0)
    absorption += texture.uniform(0.10, 0.17) * np.exp(-1.5 * hilum**2)
    absorption += _WIDENING[spec.mediastinum] * lungs.chest * _upper_mediastinum(canvas)
    airway = canvas.ribbons([curve([(0.0, -3), (0.7, 5), (1.7, 11), (2.0, 14.0)])], 1.7)
    absorption -= 0.12 * canvas.soften(airway, 0.2)
    absorption += body * bones(canvas, anatomy, skeleton)
    if spec.fracture:
        absorption += _broken_ribs(canvas, spec, anatomy)
    lateral_devices(canvas, spec, anatomy.dome, absorption)
    return absorption


def _anatomy(spec: ChestSpec, rng: np.random.Generator) -> LateralAnatomy:
    body = spec.habitus
    dome = APEX + 19.5 * body.length
    return LateralAnatomy(
        deep=0.95 + 0.08 * body.fat + 0.09 * body.emphysema + rng.normal(0, 0.02),
        dome=dome,
        angle=dome + rng.uniform(5.6, 7.4) - 2.4 * body.emphysema,
        heart=body.heart * HEART_SIZE[spec.cardiomegaly],
        kyphosis=body.kyphosis,
    )


def _healthy_lungs(
    canvas: Canvas,
    spec: ChestSpec,
    anatomy: LateralAnatomy,
    heart: Array,
    rng: np.random.Generator,
) -> LungLayers:
    """Both lungs over each other."""
    chest = canvas.fill(profile_outline(anatomy), edge=0.18)
    air = chest * (0.80 + 0.012 * (canvas.y - 16) + 0.06 * spec.habitus.emphysema)
    lines, widths = _vessel_tree(rng)
    vessels = canvas.soften(canvas.ribbons(lines, widths), 0.07) * rng.uniform(0.75, 1.15)
    return LungLayers(
        chest=chest,
        heart=heart,
        air=np.asarray(air, np.float32),
        vessels=np.asarray(vessels, np.float32),
        extra=np.zeros_like(chest),
    )


def _vessel_tree(rng: np.random.Generator) -> tuple[Points, Points]:
    num = int(rng.integers(11, 16))
    headings = np.linspace(-2.3, 3.7, num) + rng.normal(0, 0.2, num)
    away = rng.uniform(0.6, 2.0, num)
    starts = np.stack([1.0 + away * np.cos(headings), 16.4 + 1.2 * away * np.sin(headings)], axis=1)
    lengths, widths = rng.uniform(2.6, 4.6, num), rng.uniform(0.4, 0.7, num)
    return forest(rng, starts, headings, length=lengths, width=widths, depth=4, bend=0.32,
                  shrink=0.62)  # fmt: skip


def _upper_mediastinum(canvas: Canvas) -> Array:
    """Before and behind the airway, above the heart."""
    front = np.hypot((canvas.x + 2.6) / 3.6, (canvas.y - 11.5) / 4.6)
    back = np.hypot((canvas.x - 4.6) / 2.4, (canvas.y - 12.5) / 5.0)
    return np.asarray(np.maximum(step(1 - front, 0.7), 0.8 * step(1 - back, 0.7)), np.float32)


def _broken_ribs(canvas: Canvas, spec: ChestSpec, anatomy: LateralAnatomy) -> Array:
    """The two ends of each broken rib beside each other, and blood around them."""
    assert spec.fracture is not None
    pieces: list[Points] = []
    blood = np.zeros_like(canvas.y)
    for number in range(spec.fracture.count):
        y = 5.0 + 2.35 * (spec.fracture.first - 1 + number)
        x = float(spine_x(np.array([y]), anatomy)[0]) - 3.4 - 0.5 * number
        y += 3.4
        for dx, dy in ((1.1, -0.9), (-1.1, 0.9)):
            line = np.array([(x + dx + 1.5, y + dy - 0.8), (x + dx - 1.5, y + dy + 0.8)])
            pieces.append(line)
        radius = np.hypot((canvas.x - x) / 2.3, (canvas.y - y) / 2.1)
        blood = np.maximum(blood, step(1 - radius, 0.9))
    ends = canvas.soften(canvas.ribbons(pieces, 0.8), 0.12)
    return np.asarray(0.20 * ends + 0.14 * blood, np.float32)
