"""Fundus phantoms: a colour photograph of the retina, drawn in millimetres on the retina.

Coordinates are those of a right eye: the disc lies at positive x (nasal), the fovea at negative
x; a left eye is drawn mirrored.
"""

from dataclasses import dataclass

import numpy as np
from skimage.transform import downscale_local_mean

from arra_med.datasets.phantom.canvas import Array, Canvas, Points, Pose, curve, forest, step
from arra_med.datasets.phantom.fundus_plan import Amount, FundusSpec

EXTENT = 14.0
"""Side of the picture in millimetres on the retina; the field is about 45 degrees wide."""

_SMALLEST = 256
_FIELD = 6.5
_FOVEA = (-1.7, 0.15)
_DISC = (2.7, 0.0)
_DISC_RADII = (0.85, 0.95)
_COUNT: dict[Amount, tuple[int, int]] = {"few": (5, 9), "several": (14, 22), "many": (32, 48)}


@dataclass(frozen=True)
class Vessels:
    """Arteries and veins as layers ``(size, size)`` float32 in [0, 1]."""

    arteries: Array
    veins: Array


def draw_fundus(spec: FundusSpec, size: int, rng: np.random.Generator) -> Array:
    """Draw one fundus photograph.

    Args:
        spec: what it shows.
        size: side in pixels; small pictures are drawn larger and averaged down.
        rng: for everything the specification leaves open: colour, vessels, illumination, grain.

    Returns:
        ``(size, size, 3)`` float32 in [0, 1], black outside the round field.

    Raises:
        ValueError: if ``size`` is not positive.
    """
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    factor = -(-_SMALLEST // size) if size < _SMALLEST else 1
    # separate generators: the same eye with another finding differs only by that finding
    eye, camera, *disease = rng.spawn(5)
    pose = Pose(
        zoom=camera.uniform(0.98, 1.06),
        tilt=camera.normal(0, 0.06),
        shift=(0.0, camera.normal(0, 0.1)),
    )
    canvas = Canvas(size * factor, extent=EXTENT, pose=pose)
    canvas.y -= EXTENT / 2
    picture = _retina(canvas, eye)
    vessels = _vessels(canvas, eye)
    _draw_drusen(canvas, picture, spec, disease[0])
    _draw_disc(canvas, picture, spec, eye)
    _blend(picture, 0.62 * vessels.arteries, (0.66, 0.20, 0.11))
    _blend(picture, 0.74 * vessels.veins, (0.42, 0.08, 0.06))
    _draw_exudates(canvas, picture, spec, disease[1])
    _draw_haemorrhages(canvas, picture, spec, disease[2])
    picture = _photograph(canvas, picture, camera)
    if spec.eye == "left":
        picture = picture[:, ::-1]
    if factor > 1:
        picture = downscale_local_mean(picture, (factor, factor, 1))
    return np.ascontiguousarray(picture, np.float32)


def _retina(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Pigment, choroid, macula: ``(size, size, 3)``."""
    tint = np.array([0.78, 0.38, 0.17]) * rng.uniform(0.86, 1.1, 3) * (1.0, 1.0, 0.95)
    mottle = 1 + 0.03 * canvas.noise(rng, 2.5) + 0.02 * canvas.noise(rng, 0.5)
    picture = np.asarray(mottle[..., None] * tint, np.float32)
    starts = rng.uniform(-6, 6, (26, 2))
    lines, widths = forest(
        rng, np.add(starts, (0, EXTENT / 2)), rng.uniform(0, 6.28, 26),
        length=1.8, width=0.22, depth=3, bend=0.6, shrink=0.9,
    )  # fmt: skip
    choroid = canvas.soften(canvas.ribbons(lines, widths), 0.12)
    _blend(picture, rng.uniform(0.0, 0.3) * choroid, tint * (1.12, 1.1, 0.9))
    away = np.hypot(canvas.x - _FOVEA[0], (canvas.y - _FOVEA[1]) * 1.1)
    macula = 0.34 * np.exp(-((away / 1.15) ** 2)) + 0.22 * np.exp(-((away / 0.42) ** 2))
    _blend(picture, macula, (0.34, 0.10, 0.05))
    reflex = np.exp(-((away / 0.09) ** 2)) * rng.uniform(0.0, 0.4)
    _blend(picture, reflex, (1.0, 0.85, 0.6))
    return picture


def _vessels(canvas: Canvas, rng: np.random.Generator) -> Vessels:
    """Four arcades from the disc, each with an artery and a vein, and their branches."""
    layers = []
    for trunk, offset in ((0.15, 0.10), (0.21, -0.10)):
        mains: list[Points] = []
        lines: list[Points] = []
        widths: list[Points] = []
        for up in (-1.0, 1.0):
            temporal = [(0.0, 0.0), (-0.25, 1.0), (-1.5, 2.55), (-3.6, 3.25), (-5.9, 2.9),
                        (-8.2, 2.1), (-10.0, 1.4)]  # fmt: skip
            nasal = [(0.0, 0.0), (0.35, 0.9), (1.3, 2.1), (2.4, 3.3), (3.4, 4.9), (4.2, 6.5)]
            for path, share in ((temporal, 1.0), (nasal, 0.75)):
                wobble = rng.normal(0, 0.13, (len(path), 2))
                wobble[0] = 0
                knots = (np.array(path) + wobble + (offset, offset)) * (1, up)
                line = curve(knots + _DISC + (0, EXTENT / 2), num=60)
                mains.append(line)
                widths.append(np.array([[trunk * share, trunk * share * 0.3]]))
                lines.append(line)
        twigs, twig_widths = _side_branches(rng, mains, trunk)
        layer = canvas.ribbons(np.array(lines), np.concatenate(widths))
        fine = canvas.ribbons(twigs, twig_widths)
        layers.append(canvas.soften(np.maximum(layer, 0.85 * fine), 0.018))
    return Vessels(arteries=layers[0], veins=layers[1])


def _side_branches(
    rng: np.random.Generator, mains: list[Points], trunk: float
) -> tuple[Points, Points]:
    starts, headings, widths, lengths = [], [], [], []
    for line in mains:
        for where in np.sort(rng.choice(np.arange(8, 56), 9, replace=False)):
            along = line[where + 1] - line[where - 1]
            side = rng.choice([-1.0, 1.0])
            starts.append(line[where])
            headings.append(np.arctan2(along[1], along[0]) + side * rng.uniform(0.5, 1.0))
            widths.append(trunk * rng.uniform(0.28, 0.5) * (1 - 0.5 * where / 60))
            away = np.hypot(*(line[where] - (_FOVEA[0], _FOVEA[1] + EXTENT / 2)))
            lengths.append(min(1.3, 0.4 * away) * rng.uniform(0.6, 1.0))
    return forest(
        rng, starts, headings, length=lengths, width=widths, depth=3, bend=0.35, shrink=0.72
    )


def _draw_disc(canvas: Canvas, picture: Array, spec: FundusSpec, rng: np.random.Generator) -> None:
    dx, dy = (canvas.x - _DISC[0]) / _DISC_RADII[0], (canvas.y - _DISC[1]) / _DISC_RADII[1]
    radius = np.hypot(dx, dy)
    halo = np.exp(-(((radius - 1.05) / 0.35) ** 2))
    _blend(picture, 0.22 * halo, (0.95, 0.62, 0.32))
    rim = (0.97, 0.64, 0.36) if not spec.cupping else (0.93, 0.66, 0.42)
    _blend(picture, 0.92 * step(1 - radius, 0.16), rim)
    nudge = rng.normal(0, 0.04, 2)
    cup = np.hypot(dx + 0.06 + nudge[0], dy + nudge[1]) / spec.cup_ratio
    _blend(picture, 0.88 * step(1 - cup, 0.28), (1.0, 0.90, 0.68))
    if spec.cupping:  # the steep edge of a deep cup throws a shadow, its floor is pale
        edge = np.exp(-(((cup - 1.0) / 0.10) ** 2)) * step(1.02 - radius, 0.1)
        _blend(picture, 0.35 * edge, (0.72, 0.40, 0.22))


def _draw_drusen(
    canvas: Canvas, picture: Array, spec: FundusSpec, rng: np.random.Generator
) -> None:
    if not spec.drusen:
        return
    number = 2 * int(rng.integers(*_COUNT[spec.drusen]))
    places = _FOVEA + rng.normal(0, 0.85, (number, 2)) * (1.1, 0.9)
    sizes = rng.uniform(0.06, 0.15, number) * (1.25 if spec.drusen == "many" else 1.0)
    spots = _spots(canvas, places, sizes, edge=0.35)
    _blend(picture, 0.66 * spots, (0.95, 0.74, 0.36))


def _draw_exudates(
    canvas: Canvas, picture: Array, spec: FundusSpec, rng: np.random.Generator
) -> None:
    """Sharp, bright, waxy deposits in clusters and rings beside the macula."""
    if not spec.exudates:
        return
    number = int(rng.integers(*_COUNT[spec.exudates]))
    clusters = rng.integers(1, 4)
    angles = rng.uniform(0, 2 * np.pi, clusters)
    around = angles[rng.integers(clusters, size=2 * number)] + rng.normal(0, 0.45, 2 * number)
    away = rng.normal(1.7, 0.35, 2 * number)
    places = _FOVEA + np.stack([away * np.cos(around), away * np.sin(around)], axis=1)
    spots = _spots(canvas, places, rng.uniform(0.05, 0.13, 2 * number), edge=0.15)
    _blend(picture, 0.92 * spots, (1.0, 0.88, 0.46))


def _draw_haemorrhages(
    canvas: Canvas, picture: Array, spec: FundusSpec, rng: np.random.Generator
) -> None:
    """Dots and blots anywhere, and flames along the nerve fibres near the disc."""
    if not spec.haemorrhages:
        return
    number = int(rng.integers(*_COUNT[spec.haemorrhages]))
    away, around = 5.4 * np.sqrt(rng.uniform(0.02, 1, number)), rng.uniform(0, 6.28, number)
    places = np.stack([away * np.cos(around), away * np.sin(around)], axis=1)
    spots = _spots(canvas, places, rng.uniform(0.08, 0.30, number), edge=0.22)
    flames: list[Points] = []
    for _ in range(1 + number // 5):
        heading = rng.uniform(0, 6.28)
        along = np.array([np.cos(heading), np.sin(heading)])
        start = _DISC + rng.uniform(1.4, 3.2) * along
        for _fibre in range(5):
            first = start + rng.normal(0, 0.10, 2)
            last = first + rng.uniform(0.3, 0.7) * along
            flames.append(curve([first, (first + last) / 2 + rng.normal(0, 0.03, 2), last], num=8))
    streaks = canvas.ribbons(np.add(flames, (0, EXTENT / 2)), [(0.13, 0.04)])
    layer = np.maximum(spots, canvas.soften(streaks, 0.03))
    _blend(picture, 0.86 * layer, (0.33, 0.04, 0.04))


def _spots(canvas: Canvas, places: Points, radii: np.ndarray, *, edge: float) -> Array:
    """Slightly uneven discs; ``edge`` is the softness as a share of the mean radius."""
    around = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    phase = np.arange(len(radii))[:, None] * 2.4
    uneven = 1 + 0.16 * np.sin(2 * around + phase) + 0.10 * np.sin(3 * around + 2 * phase)
    ring = (
        np.stack([np.cos(around), np.sin(around)], axis=-1) * (radii[:, None] * uneven)[..., None]
    )
    outlines = ring + places[:, None] + (0, EXTENT / 2)
    return canvas.soften(canvas.paint(outlines), edge * float(radii.mean()))


def _photograph(canvas: Canvas, picture: Array, rng: np.random.Generator) -> Array:
    """Uneven light, lens, sensor, and the round mask with its notch."""
    radius = np.hypot(canvas.x, canvas.y)
    lamp = np.hypot(canvas.x - rng.normal(0, 0.8), canvas.y - rng.normal(0, 0.8))
    light = np.maximum(1.06 - rng.uniform(0.2, 0.42) * (lamp / _FIELD) ** 2, 0.4)
    lit = picture * (light * rng.uniform(0.88, 1.08))[..., None]
    haze = rng.uniform(0.0, 0.05) * step(radius - 0.8 * _FIELD, 0.35 * _FIELD)
    lit = lit + haze[..., None] * np.array([0.9, 0.8, 0.5], np.float32)
    noise = rng.standard_normal(lit.shape, dtype=np.float32) * np.float32(rng.uniform(0.006, 0.014))
    field = step(_FIELD - radius, 2.5 * canvas.pixel)
    return np.asarray(np.clip(lit + noise, 0, 1) * field[..., None], np.float32)


def _blend(picture: Array, share: np.ndarray, colour: np.ndarray | tuple[float, ...]) -> None:
    """Mix a colour into the picture, in place; ``share`` is ``(size, size)`` in [0, 1]."""
    picture += np.asarray(share, np.float32)[..., None] * (np.asarray(colour, np.float32) - picture)
