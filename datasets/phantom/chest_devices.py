"""Lines, tubes and implants on chest phantoms, brighter than anything in the body."""

import numpy as np
from numpy.typing import ArrayLike

from arra_med.datasets.phantom.canvas import Array, Canvas, Points, curve, step
from arra_med.datasets.phantom.findings import ChestSpec


def frontal_devices(
    canvas: Canvas, spec: ChestSpec, shift: float, diaphragm: float, absorption: Array
) -> None:
    """Draw a specification's devices on a PA or AP film, in place.

    Args:
        canvas: where.
        spec: which, and on which side.
        shift: centimetres that the mediastinum is pushed to the patient's left.
        diaphragm: body y of the left dome.
        absorption: changed in place.
    """
    side = -1 if spec.device_side == "right" else 1
    cava = -2.2 + shift  # the superior vena cava, where central lines end
    lines = _Lines()
    for device in spec.devices:
        if device == "pacemaker":
            _pulse_generator(canvas, (side * 10.0, 10.6), side, absorption)
            way = [(side * 8.4, 9.0), (side * 5.0, 8.4), (side * 2.2, 9.8), (cava + 0.3, 12.5)]
            low = diaphragm - 2.0
            lines.wire([*way, (cava, 18.0), (cava + 0.4, low - 2.2), (1.6 + shift, low - 0.2),
                        (5.6 + shift, low + 0.2)])  # fmt: skip
            lines.wire([*way, (cava - 0.2, 16.5), (cava - 0.2, low - 4.0), (cava + 0.5, low - 3.0),
                        (cava - 0.7, low - 4.6)])  # fmt: skip
        elif device == "port":
            ring = np.hypot(canvas.x - side * 9.0, canvas.y - 12.4)
            absorption += 0.45 * (step(1.4 - ring, 0.2) - 0.55 * step(0.75 - ring, 0.2))
            lines.tube([(side * 8.6, 11.0), (side * 6.5, 8.0), (side * 3.0, 8.4),
                        (cava + 0.3, 12.0), (cava, 17.0)], 0.3)  # fmt: skip
        elif device == "PICC":
            lines.tube([(side * 19.0, 20.0), (side * 17.0, 12.5), (side * 11.0, 9.0),
                        (side * 5.0, 8.6), (cava + 0.3, 11.5), (cava, 16.8)], 0.3)  # fmt: skip
        elif device == "central venous catheter":
            lines.tube([(side * 5.6, -2.0), (side * 4.4, 4.0), (side * 2.7, 8.6),
                        (cava + 0.2, 12.0), (cava, 16.5)], 0.38)  # fmt: skip
        elif device == "endotracheal tube":
            tip = 0.4 * shift
            for wall, width in ((-0.42, 0.22), (0.42, 0.34)):
                lines.tube([(wall, -3.0), (wall, 5.0), (wall + tip, 10.4)], width)
        else:
            lines.tube([(1.0, -3.0), (0.8, 9.0), (0.9 + shift, 17.0), (1.6, diaphragm),
                        (4.4, diaphragm + 3.4), (7.4, diaphragm + 4.8)], 0.36)  # fmt: skip
    lines.draw(canvas, absorption)


def lateral_devices(canvas: Canvas, spec: ChestSpec, diaphragm: float, absorption: Array) -> None:
    """Draw a specification's devices on a lateral film, in place; the patient faces left."""
    lines = _Lines()
    for device in spec.devices:
        if device == "pacemaker":
            _box(canvas, (-9.7, 10.6), (0.65, 2.2), absorption)
            way = [(-9.4, 8.6), (-6.0, 6.8), (-1.6, 9.5), (-1.0, 15.0)]
            lines.wire([*way, (-2.0, diaphragm - 4.5), (-5.6, diaphragm - 1.4)])
            lines.wire([*way, (-1.2, 19.0), (-2.0, 19.6), (-3.2, 18.0)])
        elif device == "port":
            _box(canvas, (-9.6, 12.2), (0.5, 1.4), absorption)
            lines.tube([(-9.4, 11.0), (-6.0, 6.6), (-1.8, 9.0), (-1.2, 16.0)], 0.3)
        elif device == "endotracheal tube":
            for wall in (-0.35, 0.35):
                lines.tube([(0.5 + wall, -3.0), (1.0 + wall, 4.0), (1.7 + wall, 9.8)], 0.26)
        elif device == "nasogastric tube":
            lines.tube([(2.8, -3.0), (3.6, 10.0), (3.0, 20.0), (0.5, diaphragm + 3)], 0.36)
        else:
            lines.tube([(-1.0, -2.0), (-1.8, 7.0), (-1.2, 16.5)], 0.32)
    lines.draw(canvas, absorption)


class _Lines:
    """Collects metal wires and plastic tubes, and draws them together."""

    def __init__(self) -> None:
        self._metal: list[tuple[Points, float]] = []
        self._plastic: list[tuple[Points, float]] = []

    def wire(self, points: ArrayLike) -> None:
        """A pacing lead: thin, with a thicker electrode at its end."""
        line = curve(points, num=80)
        tip = line[-5:]
        self._metal += [(line, 0.28), (np.linspace(tip[0], tip[-1], 80), 0.46)]

    def tube(self, points: ArrayLike, width: float) -> None:
        """A catheter or tube of a width in centimetres."""
        self._plastic.append((curve(points, num=80), width))

    def draw(self, canvas: Canvas, absorption: Array) -> None:
        """Add everything to ``absorption``."""
        for group, value in ((self._metal, 0.46), (self._plastic, 0.36)):
            if group:
                widths = [(width, width) for _, width in group]
                layer = canvas.ribbons([line for line, _ in group], widths)
                absorption += value * canvas.soften(layer, 0.05)


def _pulse_generator(
    canvas: Canvas, middle: tuple[float, float], side: int, absorption: Array
) -> None:
    """A rounded can with a less dense header."""
    u, v = (canvas.x - middle[0]) * side, canvas.y - middle[1]
    can = np.abs(u / 2.2) ** 3 + np.abs(v / 2.0) ** 3
    header = np.abs((u + 0.4) / 1.5) ** 4 + np.abs((v + 1.9) / 0.9) ** 4
    shell = step(1 - can, 0.35)
    absorption += 0.52 * shell + 0.28 * step(1 - header, 0.4) * (1 - shell)


def _box(
    canvas: Canvas, middle: tuple[float, float], half: tuple[float, float], absorption: Array
) -> None:
    """An implant seen edge on."""
    u, v = (canvas.x - middle[0]) / half[0], (canvas.y - middle[1]) / half[1]
    absorption += 0.55 * step(1 - np.abs(u) ** 3 - np.abs(v) ** 3, 0.4)
