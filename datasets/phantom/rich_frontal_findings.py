"""What the lungs of a rich frontal chest suffer from: each finding changes one lung in place."""

from dataclasses import dataclass

import numpy as np

from arra_med.datasets.phantom.canvas import Array, Canvas, curve, step
from arra_med.datasets.phantom.chest_anatomy import APEX, SIGN, FrontalAnatomy, lung_outline
from arra_med.datasets.phantom.chest_frontal import (
    LESION_PLACE,
    consolidated,
    fluid_mask,
    let_air_in,
    nodule_mask,
)
from arra_med.datasets.phantom.findings import (
    Atelectasis,
    ChestSpec,
    Opacity,
    PleuralChange,
    Side,
    Size,
    lobe_side,
)
from arra_med.datasets.phantom.rich_layers import GRADE, LungLayers


@dataclass(kw_only=True)
class Lung(LungLayers):
    """One lung.

    Attributes:
        side: of the patient.
        wall: centimetres from the inner chest wall, along x, ``(size, size)`` float32.
        outline: the lines it was drawn from.
    """

    side: Side
    wall: Array
    outline: FrontalAnatomy


def suffer(
    canvas: Canvas,
    spec: ChestSpec,
    anatomy: FrontalAnatomy,
    lung: Lung,
    rng: np.random.Generator,
) -> None:
    """Change one lung by whatever of a specification concerns it, in place."""
    side = lung.side
    wet, dense, patchy, round_, flat, pleural = rng.spawn(6)  # each finding draws its own numbers
    if spec.edema:
        _edema(canvas, anatomy, lung, spec.edema, wet)
    if spec.consolidation and lobe_side(spec.consolidation) == side:
        filled = consolidated(canvas, anatomy, spec.consolidation, dense)
        lung.fill(filled, 0.84)
        bronchi = canvas.soften(lung.vessels, 0.1)
        lung.extra += (0.06 - 0.10 * bronchi) * filled * lung.chest * (1 - 0.75 * lung.heart)
    if spec.opacity and side in spec.opacity.sides:
        _opacity(canvas, spec, anatomy, lung, spec.opacity, patchy)
    if spec.nodule and spec.nodule.side == side:
        lump = nodule_mask(canvas, spec, anatomy, round_) * lung.chest
        lung.vessels *= 1 - 0.8 * lump
        lung.extra += 0.36 * lump
    if spec.atelectasis and side in spec.atelectasis.sides:
        _atelectasis(canvas, lung, anatomy, spec.atelectasis, flat)
    if spec.pleura and side in spec.pleura.sides:
        _pleura(canvas, anatomy, lung, spec.pleura, pleural)
    if spec.pneumothorax and spec.pneumothorax[0] == side:
        size = spec.pneumothorax[1]
        lung.air, lung.vessels, line = let_air_in(
            canvas, anatomy, side, size, lung.chest, lung.air, lung.vessels
        )
        lung.extra += line
    if side in spec.effusion:
        lung.fill(fluid_mask(canvas, spec, anatomy, side, lung.wall), 0.97)


def _edema(
    canvas: Canvas, anatomy: FrontalAnatomy, lung: Lung, size: Size, rng: np.random.Generator
) -> None:
    """Wide blurred vessels, septal lines and a net; then wings of fluid around both hila."""
    grade, sign = GRADE[size], SIGN[lung.side]
    swollen = canvas.soften(lung.vessels, 0.28)
    lung.vessels = np.asarray(0.55 * lung.vessels + (1.1, 1.4, 1.3)[grade] * swollen, np.float32)
    net = np.exp(-((canvas.noise(rng, 0.8) / 0.35) ** 2))
    net += np.exp(-((canvas.noise(rng, 1.3) / 0.3) ** 2))
    lung.extra += (0.035, 0.055, 0.05)[grade] * net * lung.chest * (1 - 0.8 * lung.heart)
    num = 9 + 3 * grade
    y = lung.outline.dome[lung.side] - rng.uniform(-1.5, 7.0, num)
    edge = anatomy.wall(y) - rng.uniform(0.1, 0.3, num)
    long, fall = rng.uniform(1.2, 2.3, num), rng.uniform(-0.2, 0.2, num)
    starts = np.stack([sign * edge, y], axis=1)
    ends = np.stack([sign * (edge - long), y + fall], axis=1)
    lines = starts[:, None] + np.linspace(0, 1, 4)[None, :, None] * (ends - starts)[:, None]
    lung.extra += 0.12 * canvas.ribbons(lines, 0.28) * lung.chest
    x0, y0 = 3.4 + sign * anatomy.shift, anatomy.hilum(lung.side)
    away = np.hypot((sign * canvas.x - x0) / (1, 1.1, 1.25)[grade], (canvas.y - y0 - 1.0) / 1.35)
    ragged = 0.8 * canvas.noise(rng, 1.6) + 0.7 * canvas.noise(rng, 3.5)
    wing = step((3.6, 4.6, 5.6)[grade] - away + ragged, (5.0, 5.0, 4.0)[grade])
    lung.fill(wing, (0.22, 0.45, 0.80)[grade])
    lung.fill(step(canvas.y - y0, 14.0), (0.06, 0.12, 0.2)[grade])


def _opacity(
    canvas: Canvas,
    spec: ChestSpec,
    anatomy: FrontalAnatomy,
    lung: Lung,
    opacity: Opacity,
    rng: np.random.Generator,
) -> None:
    """Several patches with ragged edges that run into each other."""
    grade = GRADE[opacity.size]
    middle, share = LESION_PLACE[opacity.zone]
    depth = anatomy.dome["right"] - APEX
    num = (4, 6, 9)[grade]
    places = rng.normal(0, 1, (num, 2)) * ((1.5, 1.3), (1.9, 1.6), (2.4, 2.0))[grade]
    radii = rng.uniform(1.0, (1.5, 1.9, 2.4)[grade], num)
    ragged = 0.30 * canvas.noise(rng, 1.2) + 0.10 * canvas.noise(rng, 0.6)
    clear = np.ones_like(lung.chest)
    for (dx, dy), radius in zip(places, radii, strict=True):
        x = SIGN[lung.side] * ((middle - 0.6) * spec.habitus.width + dx)
        y = APEX + share * depth + dy
        away = np.hypot(canvas.x - x, canvas.y - y) / radius
        clear *= 1 - 0.8 * step(1 - away + ragged, 0.9)
    lung.fill(1 - clear, (0.52, 0.62, 0.72)[grade])


def _atelectasis(
    canvas: Canvas,
    lung: Lung,
    anatomy: FrontalAnatomy,
    collapse: Atelectasis,
    rng: np.random.Generator,
) -> None:
    sign, grade = SIGN[lung.side], GRADE[collapse.size]
    inner = sign * canvas.x
    dome = lung.outline.dome[lung.side]
    if collapse.lobe is None:  # plates above the diaphragm
        num = (2, 3)[grade]
        y = dome - 1.0 - 1.5 * np.arange(num) + rng.normal(0, 0.25, num)
        start = rng.uniform(4.6, 6.0, num) + (1.4 if lung.side == "left" else 0.0)
        end = np.minimum(start + rng.uniform(4.0, 6.5, num), anatomy.wall(y) - 0.5)
        rise, sag = rng.normal(-0.3, 0.35, num), rng.uniform(-0.35, 0.15, num)
        lines = [
            curve([(sign * x0, y0), (sign * (x0 + x1) / 2, y0 + r / 2 + bow), (sign * x1, y0 + r)],
                  num=16)
            for x0, x1, y0, r, bow in zip(start, end, y, rise, sag, strict=True)
        ]  # fmt: skip
        plates = canvas.soften(canvas.ribbons(lines, (0.75, 0.95)[grade]), 0.1) * lung.chest
        lung.extra += (0.27, 0.31)[grade] * plates * (1 - 0.8 * lung.heart)
        lung.fill(step(canvas.y - dome + 2.4, 3.5), (0.25, 0.4)[grade])
        return
    ragged = 0.25 * canvas.noise(rng, 2.0)
    if collapse.lobe == "right upper lobe":  # the fissure swings up like a fan
        low = anatomy.hilum(lung.side) - 0.2 - (0, 0.4, 1.2)[grade]
        high = APEX + (0, 4.2, 2.4)[grade]
        across = np.clip((inner - 2.5) / 7.5, 0, 1)
        mask = step(low + (high - low) * across**0.7 - canvas.y + ragged, 0.5)
    elif collapse.lobe == "left upper lobe":  # a veil that thins outwards and downwards
        away = np.hypot((inner - 3.0) / (1, 7.5, 6.5)[grade], (canvas.y - APEX - 7.5) / 9.0)
        mask = step(1.0 - away + 0.3 * ragged, (1, 1.0, 0.8)[grade])
    else:  # a triangle from the hilum to the inner diaphragm, behind the heart on the left
        share = (canvas.y - anatomy.hilum(lung.side)) / (dome + 1.0 - anatomy.hilum(lung.side))
        width = (0, 6.8, 6.0)[grade] + (3.2 if lung.side == "left" else 1.6)
        mask = step(1.6 + share * width - inner + ragged, 1.1) * step(share, 0.3)
        behind = (0, 0.09, 0.12)[grade] if lung.side == "left" else 0.02
        lung.extra += behind * mask * lung.heart * lung.chest
    lung.fill(mask, (0, 0.84, 0.95)[grade])


def _pleura(
    canvas: Canvas,
    anatomy: FrontalAnatomy,
    lung: Lung,
    change: PleuralChange,
    rng: np.random.Generator,
) -> None:
    sign, grade = SIGN[lung.side], GRADE[change.size]
    top, dome, angle = APEX, lung.outline.dome[lung.side], lung.outline.angle[lung.side]
    depth = dome - top
    if change.kind == "thickening":  # a rind along the wall
        rind = (1.6, 2.2, 3.0)[grade] + 0.28 * canvas.noise(rng, 2.6)
        reach = step(canvas.y - top - depth * (0.30, 0.2, 0.12)[grade], 3.0)
        reach *= step(angle - (1.5, 0.8, -1.0)[grade] - canvas.y, 2.0)
        lung.fill(step(rind * reach - lung.wall, 0.35) * step(reach - 0.05, 0.1), 0.92)
        return
    if change.kind == "apical":  # a cap with strands
        ragged = 0.22 * canvas.noise(rng, 1.1) + 0.35 * canvas.noise(rng, 2.5)
        cap = step(top + (3.2, 4.2, 5.4)[grade] - canvas.y + ragged, 0.8)
        lung.fill(cap, 0.92)
        num = (3, 5, 7)[grade]
        x = sign * rng.uniform(3.0, 7.0, num)
        starts = np.stack([x, np.full(num, top + (2.4, 3.4, 4.4)[grade])], axis=1)
        moves = np.stack([-0.25 * x + rng.normal(0, 0.5, num), rng.uniform(1.5, 3.5, num)], axis=1)
        strands = starts[:, None] + np.linspace(0, 1, 4)[None, :, None] * moves[:, None]
        lung.extra += 0.10 * canvas.ribbons(strands, [(0.5, 0.2)]) * lung.chest
        return
    num = (6, 8, 11)[grade]  # calcified plaques seen face on, and one on the diaphragm
    around = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    leaves = []
    for _ in range(num):
        height = top + depth * rng.uniform(0.3, 0.92)
        out = float(anatomy.wall(height)) * rng.uniform(0.5, 0.88)
        long, turn = rng.uniform(1.0, 1.9), rng.uniform(-0.6, 0.6) + np.pi / 2
        radius = 1 + 0.25 * np.sin(3 * around + rng.uniform(0, 6.28)) * rng.uniform(0.5, 1.5)
        u, v = long * radius * np.cos(around), 0.45 * long * radius * np.sin(around)
        leaves.append(
            np.stack([sign * (out + u * np.cos(turn) - v * np.sin(turn)),
                      height + u * np.sin(turn) + v * np.cos(turn)], axis=1)
        )  # fmt: skip
    layer = canvas.soften(canvas.paint(np.array(leaves)), 0.06) * lung.chest
    outline = lung_outline(lung.outline, lung.side)
    base = outline[(outline[:, 1] > dome - 0.6) & (np.abs(np.abs(outline[:, 0]) - 6.5) < 2.4)]
    base = base[base[:, 1] < dome + 1.2]
    edge = canvas.ribbons([base], 0.5) if len(base) > 1 else np.zeros_like(layer)
    lung.extra += (0.26, 0.29, 0.32)[grade] * layer + 0.20 * canvas.soften(edge, 0.06)
