"""Bones of a frontal chest in rich anatomy, with displaced rib fractures."""

import numpy as np

from arra_med.datasets.phantom.canvas import Array, Canvas, Points, curve, step
from arra_med.datasets.phantom.chest_anatomy import SIGN, FrontalAnatomy, rib_lines
from arra_med.datasets.phantom.chest_frontal import tubes
from arra_med.datasets.phantom.findings import ChestSpec

_NUM_BACK = 11
_BREAK = 0.66
"""Where along a posterior arch the uppermost fracture lies: 0 at the spine, 1 at the side."""


def frontal_bones(
    canvas: Canvas, spec: ChestSpec, anatomy: FrontalAnatomy, air: Array, rng: np.random.Generator
) -> Array:
    """Ribs (seen best over air), clavicles, scapulae, humeral heads, spine; about 0 to 0.35."""
    w, fat = spec.habitus.width, spec.habitus.fat
    old = np.clip((spec.habitus.age - 50) / 40, 0, 1)
    strength = rng.uniform(0.65, 1.0) * (1 - 0.2 * fat) * (1 - 0.25 * old)
    back, front = (lines[:, ::3] for lines in rib_lines(anatomy))  # enough points at 128 px
    slant = rng.normal(0, 0.05)
    for ribs in (back, front):
        ribs[..., 1] += slant * (np.abs(ribs[..., 0]) - 8) + rng.normal(0, 0.12, (len(ribs), 1))
    seen = 0.28 + 0.72 * np.clip(air, 0, 1)
    whole, broken = _break(spec, back)
    layer = 0.12 * tubes(canvas, whole, rng.uniform(0.95, 1.25))
    layer += rng.uniform(0.05, 0.08) * tubes(canvas, front, 1.3)
    if len(broken):
        ends = np.concatenate([broken[::2, -6:], broken[1::2, :6]])
        layer += 0.20 * tubes(canvas, broken, 1.25) + 0.24 * canvas.ribbons(ends, 1.2)
    layer = strength * seen * layer
    if len(broken):  # blood under the pleura lifts it off the wall
        middles = (broken[::2, -1] + broken[1::2, 0]) / 2
        for x, y in middles:
            radius = np.hypot((canvas.x - x) / 2.5, (canvas.y - y) / 2.0)
            layer += 0.15 * np.clip(air, 0, 1) * step(1 - radius, 1.0)
    layer += strength * _shoulders(canvas, spec, seen, rng)
    layer += _calcified_cartilage(canvas, front, rng) * old * rng.uniform(0, 0.09)
    head = np.hypot(np.abs(canvas.x) - 19.2 * w, canvas.y - 9.6)
    shaft = step(1.3 - np.abs(np.abs(canvas.x) - 20.0 * w), 0.4) * step(canvas.y - 10, 2)
    layer += 0.10 * np.maximum(step(2.5 - head, 0.6), shaft)
    return canvas.soften(np.asarray(layer + _spine(canvas, rng), np.float32), 0.07)


def _break(spec: ChestSpec, back: Points) -> tuple[Points, Points]:
    """Posterior arches that are whole, and the two pieces of each that is not.

    The outer piece of a displaced fracture is driven inwards and down, past the inner one's end.
    """
    if spec.fracture is None:
        return back, back[:0]
    offset = _NUM_BACK if SIGN[spec.fracture.side] < 0 else 0  # the right ones come second
    ribs = [offset + spec.fracture.first - 1 + i for i in range(spec.fracture.count)]
    pieces: list[Points] = []
    for number, rib in enumerate(ribs):
        line = back[rib]
        at = int((_BREAK + 0.04 * number) * len(line))
        inner, outer = line[:at], line[at:]
        inner = inner + np.linspace(0, 1, len(inner))[:, None] ** 2 * np.array([0.0, -0.35])
        fade = np.linspace(1, 0.2, len(outer))[:, None]
        outer = outer + fade * np.array([-SIGN[spec.fracture.side] * 1.0, 1.6])
        pieces += [_resample(inner), _resample(outer)]
    return np.delete(back, ribs, axis=0), np.array(pieces)


def _resample(line: Points, num: int = 24) -> Points:
    at, old = np.linspace(0, 1, num), np.linspace(0, 1, len(line))
    return np.stack([np.interp(at, old, line[:, axis]) for axis in (0, 1)], axis=1)


def _shoulders(canvas: Canvas, spec: ChestSpec, seen: Array, rng: np.random.Generator) -> Array:
    """Clavicles and shoulder blades."""
    supine = spec.view == "AP"
    w = spec.habitus.width
    high = (1.5 if supine else 0.0) + rng.normal(0, 0.5)
    tip, sag = rng.normal(0, 0.5, 2)
    collar = np.array([(1.5, 9.2), (4.5, 8.6 + 0.4 * sag), (9.0 * w, 6.8), (15.5 * w, 6.6 + tip)])
    collar -= (0, high)
    # shoulders rolled forward move the blades off the lungs
    out = rng.uniform(10.4, 12.2) if supine else rng.uniform(14.2, 16.2)
    blade = np.array(
        [(out + 4.6, 7.4), (out + 1.0, 7.8), (out - 1.6, 9.4), (out - 1.1, 14.0),
         (out + 0.8, 19.5), (out + 2.6, 15.0), (out + 4.4, 10.5)]
    ) * (w, 1) - (0, high / 2)  # fmt: skip
    pairs = [curve(collar * (sign, 1)) for sign in (-1, 1)]
    blades = [curve(blade * (sign, 1), num=60, closed=True) for sign in (-1, 1)]
    rims = canvas.ribbons([np.concatenate([b, b[:1]]) for b in blades], 0.4)
    layer = 0.10 * tubes(canvas, np.array(pairs), 1.3)
    return np.asarray(layer + seen * (0.055 * canvas.paint(blades) + 0.07 * rims), np.float32)


def _calcified_cartilage(canvas: Canvas, front: Points, rng: np.random.Generator) -> Array:
    """Specks at the front ends of ribs, in the old."""
    ends = front[:, -1] + rng.normal(0, 0.3, (len(front), 2))
    inwards = np.stack([-1.6 * np.sign(ends[:, 0]), np.full(len(ends), 0.9)], axis=1)
    lines = ends[:, None] + np.linspace(0, 1, 5)[None, :, None] * inwards[:, None]
    return canvas.soften(canvas.ribbons(lines, 0.5), 0.08)


def _spine(canvas: Canvas, rng: np.random.Generator) -> Array:
    spacing, phase = rng.uniform(2.25, 2.65), rng.uniform(0, 2.5)
    middle = np.abs(canvas.x - 0.1)
    discs = np.cos(2 * np.pi * (canvas.y - phase) / spacing)
    column = step(1.7 - middle, 0.6)
    layer = column * (0.03 + 0.024 * np.clip(discs, -0.6, 1))
    layer += 0.03 * np.exp(-(((middle - 1.1) / 0.35) ** 2)) * np.clip(discs - 0.3, 0, 1)
    return np.asarray(layer, np.float32)
