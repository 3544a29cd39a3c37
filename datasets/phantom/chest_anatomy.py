"""The lines of a chest seen from the front: lungs, heart, ribs, for a body and its findings.

Negative x is the patient's right, y grows downwards; centimetres of an average adult.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from arra_med.datasets.phantom.canvas import Points, curve
from arra_med.datasets.phantom.findings import ChestSpec, Side, Size

SIGN: dict[Side, int] = {"right": -1, "left": 1}
APEX = 6.0
"""Body y of the top of the lungs."""

HEART_SIZE: dict[Size | None, float] = {None: 1.0, "small": 1.32, "moderate": 1.43, "large": 1.54}
"""Magnification of the heart by the size of a cardiomegaly."""

_SHIFT: dict[Size, float] = {"small": 0.0, "moderate": 0.3, "large": 1.5}


@dataclass(frozen=True, kw_only=True)
class FrontalAnatomy:
    """The lines that a frontal drawing follows.

    Attributes:
        wall: x of the inner chest wall for body y, without sign.
        dome: y of the top of the diaphragm on each side.
        angle: y of the costophrenic angle on each side.
        shift: centimetres that the mediastinum is pushed to the patient's left.
        heart: magnification of the heart.
        aorta: magnification of the aortic knob.
        mediastinum: magnification of what lies above the heart.
    """

    wall: PchipInterpolator
    dome: dict[Side, float]
    angle: dict[Side, float]
    shift: float
    heart: float
    aorta: float
    mediastinum: float = 1.0

    def hilum(self, side: Side) -> float:
        """Body y of a hilum; the left one lies higher."""
        return APEX + 0.46 * (self.dome["right"] - APEX) - (0.9 if side == "left" else 0.0)


def frontal_anatomy(spec: ChestSpec, rng: np.random.Generator) -> FrontalAnatomy:
    """Lay out a body for a PA or AP film; a patient in bed breathes in less."""
    body = spec.habitus
    portable = spec.view == "AP"
    depth = 22.0 * (body.length - (0.15 if portable else 0.0) + rng.normal(0, 0.012))
    knots = np.array(
        [(0, 3.0), (0.06, 6.0), (0.14, 8.3), (0.28, 10.7), (0.45, 12.2), (0.65, 13.2),
         (0.85, 13.7), (1.05, 13.9), (1.25, 13.8), (1.6, 13.4)]
    )  # fmt: skip
    dome: dict[Side, float] = {
        "right": APEX + depth,
        "left": APEX + depth + rng.uniform(0.5, 1.4),
    }
    push = 0.0
    for side, size in spec.effusion.items():
        push -= SIGN[side] * _SHIFT[size] * (len(spec.effusion) == 1)
    if spec.pneumothorax:
        push -= SIGN[spec.pneumothorax[0]] * _SHIFT[spec.pneumothorax[1]]
    return FrontalAnatomy(
        wall=PchipInterpolator(APEX + depth * knots[:, 0], body.width * knots[:, 1]),
        dome=dome,
        angle={side: dome[side] + rng.uniform(3.2, 4.2) for side in dome},
        shift=push,
        heart=body.heart * (1.08 if portable else 1.0) * HEART_SIZE[spec.cardiomegaly],
        aorta=rng.uniform(0.9, 1.1) * (0.8 + 0.4 * body.age / 90),
    )


def lung_outline(anatomy: FrontalAnatomy, side: Side, collapse: float = 0.0) -> Points:
    """A lung's closed outline, ``(140, 2)``; ``collapse`` is the width of the air around it."""
    dome, angle = anatomy.dome[side], anatomy.angle[side]
    top = APEX + 1.1 * collapse
    down = np.linspace(top, angle - 0.3 - 0.25 * collapse, 14)
    gone = collapse * (1.15 - 0.45 * (down - top) / (angle - top))
    outer = np.maximum(anatomy.wall(down) - gone, 2.6)
    outer[0] = min(outer[0], 3.0)
    width = float(anatomy.wall(angle))
    base = [
        (outer[-1] - 0.25, angle - 0.05 - 0.25 * collapse),
        (0.80 * width - 0.8 * collapse, dome + 1.1),
        (0.56 * width - 0.4 * collapse, dome),
        (0.36 * width, dome + 0.25),
        (2.6, dome + 1.3),
    ]
    inner = [(1.7, dome - 4.0), (1.7, APEX + 6), (2.0, top + 1.2)]
    points = np.array([*zip(outer, down, strict=True), *base, *inner])
    points[:, 0] = np.maximum(points[:, 0], 1.5)
    return curve(points * (SIGN[side], 1), num=140, closed=True)


def heart_outline(anatomy: FrontalAnatomy) -> Points:
    """Heart and great vessels, ``(160, 2)``; a large heart grows most to the left and down."""
    floor = anatomy.dome["right"]
    knob = 3.4 * anatomy.aorta
    shape = np.array(
        [(-2.2, 7.0), (-2.5, 11.5), (-2.6, 14.8), (-3.1, 17.6), (-3.7, 20.6), (-3.8, 23.6),
         (-3.2, 26.6), (-2.4, 29.5), (0.5, 33.0), (6.0, 32.0), (8.2, 29.4), (8.6, 26.8),
         (7.9, 24.0), (6.1, 20.6), (4.3, 17.9), (3.3, 16.2), (2.8, 14.7), (knob - 0.2, 13.3),
         (knob, 12.1), (knob - 0.6, 10.8), (2.1, 9.6), (1.9, 7.0)]
    )  # fmt: skip
    low = np.clip((shape[:, 1] - 14.5) / 5.0, 0, 1) * (anatomy.heart - 1)
    shape[:, 0] *= 1 + low * np.where(shape[:, 0] < 0, 0.75, 1.02)
    high = np.clip((17.5 - shape[:, 1]) / 3.0, 0, 1)
    shape[:, 0] *= 1 + high * (anatomy.mediastinum - 1)
    reach = (floor - 13.0) / 15.0  # a high diaphragm lifts the heart
    shape[:, 1] = np.where(shape[:, 1] > 13, 13 + (shape[:, 1] - 13) * reach, shape[:, 1])
    shape[:, 0] += anatomy.shift * np.clip((shape[:, 1] - 6) / 6, 0, 1)
    return curve(shape, num=160, closed=True)


def rib_lines(anatomy: FrontalAnatomy) -> tuple[Points, Points]:
    """Posterior arches from the spine outwards, and anterior parts back inwards, both sides.

    Returns:
        ``(22, 40, 2)`` and ``(14, 40, 2)``.
    """
    spacing = (anatomy.dome["right"] - APEX + 3) / 10.6
    back: list[Points] = []
    front: list[Points] = []
    for rib in range(11):
        start, fall = APEX - 0.6 + spacing * rib, 1.6 + 0.28 * rib
        turn = start + fall
        edge = float(anatomy.wall(min(max(turn, APEX + 1.2), anatomy.angle["left"]))) + 0.4
        arch = [(1.9, start), (0.38 * edge, start - 0.7), (0.74 * edge, start + 0.28 * fall),
                (0.95 * edge, start + 0.7 * fall), (edge, turn)]  # fmt: skip
        back.append(curve(arch))
        if 0 < rib < 8:
            end = [(edge, turn), (0.95 * edge, turn + 1.4), (0.78 * edge, turn + 3.1),
                   (0.56 * edge, turn + 4.4)]  # fmt: skip
            front.append(curve(end))
    both = [np.array(lines) for lines in (back, front)]
    mirrored = [np.concatenate([lines, lines * (-1, 1)]) for lines in both]
    return mirrored[0], mirrored[1]
