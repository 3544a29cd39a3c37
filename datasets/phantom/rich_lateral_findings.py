"""What the lungs of a rich lateral chest suffer from; both lie over each other there."""

import numpy as np

from arra_med.datasets.phantom.canvas import Canvas, curve, step
from arra_med.datasets.phantom.chest_anatomy import APEX
from arra_med.datasets.phantom.chest_lateral import (
    LESION_PLACE,
    LateralAnatomy,
    consolidated_profile,
    fluid_profile,
    let_air_in_profile,
    spine_x,
)
from arra_med.datasets.phantom.findings import (
    Atelectasis,
    ChestSpec,
    Nodule,
    Opacity,
    PleuralChange,
    Size,
)
from arra_med.datasets.phantom.rich_layers import GRADE, LungLayers


def suffer_in_profile(
    canvas: Canvas,
    spec: ChestSpec,
    anatomy: LateralAnatomy,
    lungs: LungLayers,
    rng: np.random.Generator,
) -> None:
    """Change the lungs by what a specification names, in place."""
    wet, dense, patchy, round_, flat, pleural = rng.spawn(6)  # each finding draws its own numbers
    if spec.edema:
        _edema(canvas, anatomy, lungs, spec.edema, wet)
    if spec.consolidation:
        filled = consolidated_profile(canvas, anatomy, spec.consolidation, dense)
        lungs.fill(filled, 0.66)
        lungs.extra += (0.07 - 0.10 * canvas.soften(lungs.vessels, 0.1)) * filled * lungs.chest
    if spec.opacity:
        _opacity(canvas, anatomy, lungs, spec.opacity, patchy)
    if spec.nodule:
        _nodule(canvas, anatomy, lungs, spec.nodule, round_)
    if spec.atelectasis:
        _atelectasis(canvas, anatomy, lungs, spec.atelectasis, flat)
    if spec.pleura:
        _pleura(canvas, anatomy, lungs, spec.pleura, pleural)
    if spec.pneumothorax:
        lungs.air, lungs.vessels, line = let_air_in_profile(
            canvas, anatomy, spec.pneumothorax[1], lungs.chest, lungs.air, lungs.vessels
        )
        lungs.extra += line
    for size in spec.effusion.values():
        lungs.fill(fluid_profile(canvas, anatomy, size), 0.92)


def _edema(
    canvas: Canvas,
    anatomy: LateralAnatomy,
    lungs: LungLayers,
    size: Size,
    rng: np.random.Generator,
) -> None:
    grade = GRADE[size]
    swollen = canvas.soften(lungs.vessels, 0.28)
    lungs.vessels = np.asarray(0.55 * lungs.vessels + (1.1, 1.4, 1.3)[grade] * swollen, np.float32)
    net = np.exp(-((canvas.noise(rng, 0.8) / 0.35) ** 2))
    net += np.exp(-((canvas.noise(rng, 1.3) / 0.3) ** 2))
    lungs.extra += (0.035, 0.055, 0.05)[grade] * net * lungs.chest * (1 - 0.6 * lungs.heart)
    # fluid makes the fissures thick
    minor = curve([(1.0, 16.8), (-4.0, 17.0), (-8.2, 17.6)])
    major = curve([(5.6, 9.0), (1.6, 15.5), (-2.5, 21.0), (-6.0, anatomy.dome)])
    fissures = canvas.ribbons([minor, major], (0.3, 0.4, 0.4)[grade])
    lungs.extra += 0.07 * canvas.soften(fissures, 0.12) * lungs.chest
    ragged = 0.8 * canvas.noise(rng, 1.6) + 0.7 * canvas.noise(rng, 3.5)
    away = np.hypot(canvas.x - 1.4, (canvas.y - 17.0) / 1.2)
    wing = step((3.6, 4.8, 5.8)[grade] - away + ragged, 4.5)
    lungs.fill(wing, (0.20, 0.40, 0.70)[grade])


def _opacity(
    canvas: Canvas,
    anatomy: LateralAnatomy,
    lungs: LungLayers,
    opacity: Opacity,
    rng: np.random.Generator,
) -> None:
    grade = GRADE[opacity.size]
    middle, share = LESION_PLACE[opacity.zone]
    num = (4, 6, 9)[grade]
    places = rng.normal(0, 1, (num, 2)) * ((1.5, 1.2), (1.9, 1.5), (2.4, 1.8))[grade]
    radii = rng.uniform(1.0, (1.5, 1.9, 2.4)[grade], num)
    ragged = 0.30 * canvas.noise(rng, 1.2) + 0.10 * canvas.noise(rng, 0.6)
    clear = np.ones_like(lungs.chest)
    for (dx, dy), radius in zip(places, radii, strict=True):
        x, y = middle * anatomy.deep + dx, APEX + share * (anatomy.dome - APEX) + dy
        away = np.hypot(canvas.x - x, canvas.y - y) / radius
        clear *= 1 - 0.8 * step(1 - away + ragged, 0.9)
    lungs.fill(1 - clear, (0.45, 0.55, 0.62)[grade])


def _nodule(
    canvas: Canvas,
    anatomy: LateralAnatomy,
    lungs: LungLayers,
    nodule: Nodule,
    rng: np.random.Generator,
) -> None:
    x0, share = LESION_PLACE[nodule.zone]
    away = np.hypot(
        canvas.x - x0 * anatomy.deep - rng.uniform(-0.8, 0.8),
        canvas.y - APEX - share * (anatomy.dome - APEX) - rng.uniform(-0.5, 0.5),
    )
    lump = step(nodule.diameter / 2 - away, 0.6)
    lungs.vessels *= 1 - 0.8 * lump
    lungs.extra += 0.36 * lump


def _atelectasis(
    canvas: Canvas,
    anatomy: LateralAnatomy,
    lungs: LungLayers,
    collapse: Atelectasis,
    rng: np.random.Generator,
) -> None:
    grade, d, dome = GRADE[collapse.size], anatomy.deep, anatomy.dome
    if collapse.lobe is None:
        num = (2, 3)[grade]
        x, long = rng.uniform(0.0, 4.0, num), rng.uniform(3.5, 5.5, num)
        y = dome - (1.5 * np.arange(num) - 0.8) + rng.normal(0, 0.2, num)
        rise = rng.normal(0.8, 0.5, num)
        starts = np.stack([x, y], axis=1)
        ends = np.stack([x + long, y + rise], axis=1)
        lines = starts[:, None] + np.linspace(0, 1, 6)[None, :, None] * (ends - starts)[:, None]
        plates = canvas.soften(canvas.ribbons(lines, (0.75, 0.95)[grade]), 0.1)
        lungs.extra += (0.24, 0.28)[grade] * plates * lungs.chest
        return
    ragged = 0.25 * canvas.noise(rng, 2.0)
    if collapse.lobe == "right upper lobe":
        mask = step(14.6 - grade - canvas.y - 0.35 * np.abs(canvas.x - 1.0) + ragged, 0.6)
    elif collapse.lobe == "left upper lobe":  # folds forward against the breastbone
        front = -8.8 * d + (0, 5.6, 4.2)[grade] - 0.10 * np.abs(canvas.y - 15)
        mask = step(front - canvas.x + ragged, 0.7) * step(dome - 1.0 - canvas.y, 3.0)
    else:  # folds back against the lower spine
        back = spine_x(canvas.y, anatomy) - (0, 3.6, 2.6)[grade]
        share = (canvas.y - 15.5) / (dome - 15.5)
        mask = step(canvas.x - back - 4.0 * (1 - share) + ragged, 0.7) * step(share, 0.2)
    lungs.fill(mask, (0, 0.72, 0.82)[grade])


def _pleura(
    canvas: Canvas,
    anatomy: LateralAnatomy,
    lungs: LungLayers,
    change: PleuralChange,
    rng: np.random.Generator,
) -> None:
    grade, d, dome = GRADE[change.size], anatomy.deep, anatomy.dome
    if change.kind == "thickening":  # along the back
        rind = (1.4, 2.0, 2.8)[grade] + 0.12 * canvas.noise(rng, 2.6)
        border = np.interp(canvas.y, (7, 11, 17, dome, anatomy.angle), np.multiply(
            d, (6.0, 9.3, 10.3, 10.2, 9.0)))  # fmt: skip
        reach = step(canvas.y - 9.5, 3.0) * step(anatomy.angle - 1.0 - canvas.y, 2.0)
        lungs.fill(step(canvas.x - border + rind * reach, 0.35) * step(reach - 0.05, 0.1), 0.75)
        return
    if change.kind == "apical":
        ragged = 0.2 * canvas.noise(rng, 1.1) + 0.3 * canvas.noise(rng, 2.5)
        lungs.fill(step(APEX + (3.0, 4.0, 5.2)[grade] - canvas.y + ragged, 0.9), 0.75)
        return
    num = (4, 6, 9)[grade]
    around = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    leaves = []
    for _ in range(num):
        x, y = rng.uniform(-6.5, 7.5) * d, rng.uniform(11.0, dome - 1.0)
        long = rng.uniform(0.8, 1.7)
        lobes = np.sin(3 * around + rng.uniform(0, 6.28)) * rng.uniform(0.5, 1.5)
        radius = long * (1 + 0.25 * lobes)
        leaves.append(
            np.stack([x + 0.45 * radius * np.cos(around), y + radius * np.sin(around)], axis=1)
        )
    layer = canvas.soften(canvas.paint(np.array(leaves)), 0.06) * lungs.chest
    base = curve(
        [(-7.0 * d, dome), (-5.0 * d, dome - 0.3), (-2.0 * d, dome), (1.0 * d, dome + 0.8)]
    )
    edge = canvas.soften(canvas.ribbons([base], 0.5), 0.06)
    lungs.extra += (0.20, 0.23, 0.26)[grade] * layer + 0.18 * edge
