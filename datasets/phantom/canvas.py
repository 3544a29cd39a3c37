"""A picture measured in centimetres: curves, soft shapes, ribbons, branching trees, noise.

Shapes are given in body coordinates: x grows to the right of the picture, y downwards. A pose
(rotation, zoom, shift) puts the body onto the film, so anatomy is written down only once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float32]
Points = NDArray[np.float64]

_OVERSAMPLE = 2
_TRUNCATE = 2.5  # standard deviations that a blur reaches


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the body lies on the film.

    Attributes:
        zoom: magnification; 1 puts the film's full width over the whole picture.
        tilt: rotation in the picture plane, in radians.
        shift: centimetres to the right and down.
        bend: centimetres that the body's middle is pushed to the right: a curved spine.
    """

    zoom: float = 1.0
    tilt: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    bend: float = 0.0


class Canvas:
    """A square picture and its body coordinates.

    Args:
        size: side in pixels.
        extent: side in centimetres at zoom 1; body x runs from ``-extent / 2`` to ``extent / 2``,
            body y from 0 to ``extent``.
        pose: rotation, zoom and shift about the middle of the picture, and the bend.
        oversample: shapes are painted on a grid this much finer and averaged down.

    Attributes:
        x: ``(size, size)`` float32, body x of every pixel's middle, in centimetres.
        y: the same for body y.
        pixel: a pixel's side in centimetres.
    """

    def __init__(
        self, size: int, *, extent: float, pose: Pose, oversample: int = _OVERSAMPLE
    ) -> None:
        self.size = size
        self._oversample, self._bend = oversample, pose.bend
        self.pixel = extent / size / pose.zoom
        cos, sin = np.cos(pose.tilt), np.sin(pose.tilt)
        to_body = self.pixel * np.array([[cos, sin], [-sin, cos]])
        self._to_film = np.linalg.inv(to_body)
        self._middle = np.array([0.0, extent / 2]) - np.asarray(pose.shift)
        steps = (np.arange(size) + 0.5 - size / 2).astype(np.float32)
        column, row = steps[None, :], steps[:, None]
        (a, b), (c, d) = to_body.astype(np.float32)
        self.x: Array = a * column + b * row + np.float32(self._middle[0])
        self.y: Array = c * column + d * row + np.float32(self._middle[1])
        if pose.bend:
            self.x = np.asarray(self.x - pose.bend * _bow(self.y), np.float32)

    def film(self, points: ArrayLike) -> Points:
        """Body coordinates ``(…, 2)`` as ``(column, row)`` in pixels, edges at 0 and ``size``."""
        body = np.asarray(points, np.float64)
        if self._bend:
            push = self._bend * _bow(body[..., 1])
            body = np.stack([body[..., 0] + push, body[..., 1]], axis=-1)
        moved = (body - self._middle) @ self._to_film.T
        return np.asarray(moved + self.size / 2)

    def paint(self, outlines: ArrayLike, strengths: ArrayLike = 1.0) -> Array:
        """The union of closed outlines, anti-aliased.

        Args:
            outlines: ``(M, N, 2)`` body coordinates.
            strengths: value inside each one in [0, 1], later ones over earlier ones.

        Returns:
            ``(size, size)`` float32 in [0, 1].
        """
        fine = self._oversample
        side = self.size * fine
        picture = Image.new("L", (side, side))
        draw = ImageDraw.Draw(picture)
        shapes = np.rint(self.film(outlines) * fine - 0.5)
        shapes = shapes.reshape(len(shapes), -1)
        fills = np.rint(255 * np.broadcast_to(np.asarray(strengths), len(shapes))).astype(int)
        for shape, fill in zip(shapes.tolist(), fills.tolist(), strict=True):
            draw.polygon(shape, fill=fill)
        box = picture.getbbox()  # mostly empty; zeros need no averaging
        layer = np.zeros((self.size, self.size), np.float32)
        if box is not None:
            left, top, right, bottom = (
                box[0] // fine,
                box[1] // fine,
                -(-box[2] // fine),
                -(-box[3] // fine),
            )
            part = picture.reduce(
                fine,
                (fine * left, fine * top, fine * right, fine * bottom),
            )
            layer[top:bottom, left:right] = np.asarray(part, np.float32) / np.float32(255)
        return layer

    def fill(self, outline: Points, *, edge: float) -> Array:
        """A closed shape, 1 inside and 0 outside, its edge softened over ``edge`` centimetres."""
        return self.soften(self.paint([outline]), edge)

    def ribbons(self, lines: Sequence[Points] | Points, widths: ArrayLike) -> Array:
        """Lines of given widths as one layer, ``(size, size)`` float32 in [0, 1].

        Args:
            lines: M lines of ``(N, 2)`` body coordinates, N the same for all.
            widths: in centimetres: one for all, or ``(M, 2)``, at the start and end of each line.
                Where a line is thinner than a pixel, it is drawn fainter instead.
        """
        stack = np.asarray(lines, np.float64)
        ends = np.broadcast_to(np.asarray(widths, np.float64), (len(stack), 2))
        along = np.linspace(0, 1, stack.shape[1])
        wanted = ends[:, :1] * (1 - along) + ends[:, 1:] * along
        wide = np.maximum(wanted, 0.9 * self.pixel)
        side = normals(stack) * wide[..., None] / 2
        outlines = np.concatenate([stack + side, (stack - side)[:, ::-1]], axis=1)
        strengths = wanted.sum(axis=1) / wide.sum(axis=1)
        order = np.argsort(strengths, kind="stable")  # faint ones first, so that none hides another
        return self.paint(outlines[order], strengths[order])

    def soften(self, layer: Array, edge: float) -> Array:
        """Gaussian blur with a standard deviation of ``edge`` centimetres."""
        sigma = edge / self.pixel
        if sigma <= 0.25:
            return layer
        rows, columns = np.flatnonzero(layer.any(axis=1)), np.flatnonzero(layer.any(axis=0))
        if not len(rows):
            return layer.copy()
        # far from everything zeros stay zeros: only what lies near the layer's content is blurred
        reach = int(_TRUNCATE * sigma + 0.5) + 1
        near = tuple(
            slice(max(0, int(found[0]) - 2 * reach), int(found[-1]) + 1 + 2 * reach)
            for found in (rows, columns)
        )
        blurred = np.zeros_like(layer)
        gaussian_filter(layer[near], sigma, truncate=_TRUNCATE, output=blurred[near])
        return blurred

    def noise(self, rng: np.random.Generator, grain: float) -> Array:
        """Smooth noise, mean 0 and standard deviation about 1, with blobs of ``grain`` cm."""
        cells = max(3, round(self.size * self.pixel / grain))
        if cells >= self.size:
            return rng.standard_normal((self.size, self.size), dtype=np.float32)
        coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        smooth = coarse.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(smooth) * np.float32(1.35)


def _bow(y: NDArray[np.floating]) -> NDArray[np.floating]:
    """The shape of a bent spine: 1 in the middle of the chest, 0 far above and below it."""
    return np.asarray(np.exp(-(((y - 17) / 9.0) ** 2)))


def normals(lines: Points) -> Points:
    """Unit normals of lines of ``(…, N, 2)`` points, in the same shape."""
    along = np.empty_like(lines)
    along[..., 1:-1, :] = lines[..., 2:, :] - lines[..., :-2, :]
    along[..., 0, :] = lines[..., 1, :] - lines[..., 0, :]
    along[..., -1, :] = lines[..., -1, :] - lines[..., -2, :]
    length = np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-9)
    return np.stack([-along[..., 1] / length, along[..., 0] / length], axis=-1)


def curve(points: ArrayLike, *, num: int = 40, closed: bool = False) -> Points:
    """A smooth line of ``num`` points through ``(N, 2)`` points, closed or not."""
    knots = np.asarray(points, np.float64)
    if closed:
        knots = np.concatenate([knots[-2:], knots, knots[:3]])
    gaps = np.diff(knots, axis=0)
    where = np.concatenate([[0.0], np.cumsum(np.sqrt(np.hypot(gaps[:, 0], gaps[:, 1])))])
    first, last = (where[2], where[-3]) if closed else (where[0], where[-1])
    return _hermite(where, knots, np.linspace(first, last, num, endpoint=not closed))


def _hermite(where: Points, knots: Points, at: Points) -> Points:
    """The cubic through ``knots`` whose slopes are their central differences.

    scipy's ``CubicHermiteSpline``, term by term and so bit for bit, without the checks that take
    most of its time for a few points.
    """
    gaps = np.diff(where)[:, None]
    rise = np.diff(knots, axis=0) / gaps
    slopes = _slopes(knots, gaps, rise)
    bend = (slopes[:-1] + slopes[1:] - 2 * rise) / gaps
    piece = np.clip(np.searchsorted(where, at, side="right") - 1, 0, len(where) - 2)
    along = (at - where[piece])[:, None]
    cubic, square = (bend / gaps)[piece], ((rise - slopes[:-1]) / gaps - bend)[piece]
    squared = along * along
    value = knots[piece] + slopes[piece] * along + square * squared
    return np.asarray(value + cubic * (squared * along))


def _slopes(knots: Points, gaps: Points, rise: Points) -> Points:
    """``np.gradient`` along axis 0, term by term and so bit for bit, without its checks."""
    slopes = np.empty_like(knots)
    slopes[0], slopes[-1] = rise[0], rise[-1]
    before, after = gaps[:-1], gaps[1:]
    if (gaps == gaps[0]).all():
        slopes[1:-1] = (knots[2:] - knots[:-2]) / (2.0 * gaps[0])
        return slopes
    both = before + after
    slopes[1:-1] = (
        -after / (before * both) * knots[:-2]
        + (after - before) / (before * after) * knots[1:-1]
        + before / (after * both) * knots[2:]
    )
    return slopes


def step(value: NDArray[np.floating], width: float) -> Array:
    """0 where ``value`` is well below 0, 1 where it is well above; a ramp of ``width``."""
    ramp = np.array(value, np.float32)
    ramp *= np.float32(1 / width)
    ramp += np.float32(0.5)
    np.clip(ramp, 0, 1, out=ramp)
    slope = np.float32(3) - 2 * ramp
    ramp *= ramp
    ramp *= slope
    return ramp


def forest(
    rng: np.random.Generator,
    starts: ArrayLike,
    headings: ArrayLike,
    *,
    length: ArrayLike,
    width: ArrayLike,
    depth: int,
    spread: float = 0.45,
    bend: float = 0.25,
    shrink: float = 0.74,
) -> tuple[Points, Points]:
    """Branching trees (vessels, bronchi), all grown together, level by level.

    Each twig bends at random, gets thinner, and forks in two until ``depth`` levels are there.

    Args:
        rng: of bends, angles and lengths.
        starts: ``(T, 2)``, where the trees start.
        headings: ``(T,)``, towards where, in radians (0 is +x, π/2 is +y).
        length: of the first twigs in centimetres, one or ``(T,)``.
        width: of the first twigs in centimetres, one or ``(T,)``.
        depth: levels.
        spread: half the usual angle of a fork, in radians.
        bend: standard deviation of a twig's turn, in radians.
        shrink: width at a twig's end over that at its start.

    Returns:
        Twigs ``(M, 7, 2)`` and the widths at their ends ``(M, 2)``, for :meth:`Canvas.ribbons`.
    """
    tips = np.asarray(starts, np.float64)
    angle = np.asarray(headings, np.float64)
    reach = np.broadcast_to(np.asarray(length, np.float64), angle.shape)
    wide = np.broadcast_to(np.asarray(width, np.float64), angle.shape)
    lines: list[Points] = []
    widths: list[Points] = []
    steps = np.linspace(0, 1, 6)
    for _ in range(depth):
        turned = angle[:, None] + rng.normal(0, bend, angle.shape)[:, None] * steps
        moves = np.stack([np.cos(turned), np.sin(turned)], axis=-1) * (reach / 6)[:, None, None]
        grown = np.concatenate([np.zeros_like(moves[:, :1]), np.cumsum(moves, axis=1)], axis=1)
        grown += tips[:, None]
        lines.append(grown)
        widths.append(np.stack([wide, wide * shrink], axis=1))
        fork = np.tile([-1.0, 1.0], len(angle)) * spread * rng.uniform(0.4, 1.3, 2 * len(angle))
        tips, angle = np.repeat(grown[:, -1], 2, axis=0), np.repeat(turned[:, -1], 2) + fork
        reach = np.repeat(reach, 2) * rng.uniform(0.6, 0.95, len(angle))
        wide = np.repeat(wide, 2) * shrink * rng.uniform(0.72, 1.0, len(angle))
    return np.concatenate(lines), np.concatenate(widths)
