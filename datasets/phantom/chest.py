"""Chest phantoms as pictures: what all views share, and the way from tissue to film.

A view module returns how much X-ray each point absorbs (``Absorption``); here that becomes a
film: exposure, contrast, scatter, grain and the side marker.
"""

import numpy as np
from skimage.transform import downscale_local_mean

from arra_med.datasets.phantom.canvas import Array, Canvas, Pose
from arra_med.datasets.phantom.chest_frontal import frontal_absorption
from arra_med.datasets.phantom.chest_lateral import lateral_absorption
from arra_med.datasets.phantom.findings import FINDINGS, Anatomy, ChestSpec
from arra_med.datasets.phantom.rich_frontal import rich_frontal_absorption
from arra_med.datasets.phantom.rich_lateral import rich_lateral_absorption

EXTENT = 40.0
"""Side of the film in centimetres."""

_ABSORB = {
    ("simple", False): frontal_absorption,
    ("simple", True): lateral_absorption,
    ("rich", False): rich_frontal_absorption,
    ("rich", True): rich_lateral_absorption,
}
_SMALLEST: dict[Anatomy, int] = {"simple": 256, "rich": 128}
_OVERSAMPLE: dict[Anatomy, int] = {"simple": 2, "rich": 3}


def draw_chest(
    spec: ChestSpec, size: int, rng: np.random.Generator, anatomy: Anatomy = "simple"
) -> Array:
    """Draw one chest film, the patient's right on the left of the picture.

    Args:
        spec: what it shows.
        size: side in pixels; small pictures are drawn larger and averaged down.
        rng: for everything the specification leaves open: pose, exposure, vessels, grain.
        anatomy: how the body is drawn; some findings are seen in rich anatomy only.

    Returns:
        ``(size, size)`` float32 in [0, 1], bright where much is absorbed.

    Raises:
        ValueError: if ``size`` is not positive, or simple anatomy cannot show a finding.
    """
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    unseen = sorted(spec.findings.difference(FINDINGS)) if anatomy == "simple" else []
    if unseen:
        raise ValueError(f"simple anatomy cannot show {', '.join(unseen)}: draw rich anatomy")
    smallest = _SMALLEST[anatomy]
    factor = -(-smallest // size) if size < smallest else 1
    # separate generators: the same body with another finding differs only by that finding
    posing, body, disease, exposure = rng.spawn(4)
    canvas = Canvas(
        size * factor,
        extent=EXTENT,
        pose=_pose(spec, posing),
        oversample=_OVERSAMPLE[anatomy],
    )
    absorb = _ABSORB[anatomy, spec.view == "lateral"]
    absorption = absorb(canvas, spec, body, disease)
    film = _expose(canvas, absorption, spec, exposure, rich=anatomy == "rich")
    if factor > 1:
        film = downscale_local_mean(film, (factor, factor)).astype(np.float32)
    return film


def _pose(spec: ChestSpec, rng: np.random.Generator) -> Pose:
    careless = 1.6 if spec.view == "AP" else 1.0  # portable films are less well positioned
    return Pose(
        zoom=rng.uniform(1.2, 1.32) if spec.view == "lateral" else rng.uniform(1.08, 1.2),
        tilt=careless * rng.normal(0, 0.02),
        shift=(
            careless * rng.normal(0, 0.45),
            rng.normal(1.6 if spec.view == "lateral" else 0.6, 0.5),
        ),
        bend=0.0 if spec.view == "lateral" else spec.habitus.bend,
    )


def _expose(
    canvas: Canvas, absorption: Array, spec: ChestSpec, rng: np.random.Generator, *, rich: bool
) -> Array:
    """Absorption (about 0 to 1.2) to a film in [0, 1]; much tissue scatters more."""
    portable = spec.view == "AP"
    veil = 0.15 + 0.15 * max(spec.habitus.fat, 0.0) if rich else 0.25
    scatter = canvas.soften(absorption, 0.25) * veil + absorption * (1 - veil)
    fog = rng.uniform(0.03, 0.09) if portable else rng.uniform(0.0, 0.04)
    exposure = rng.uniform(0.86, 1.06)
    toe = rng.uniform(0.9, 1.25)
    signal = np.clip(fog * (absorption > 0.05) + exposure * (1 - fog) * scatter, 0, None) ** toe
    grain = rng.uniform(0.008, 0.018) * (1.3 if portable else 1.0)
    if rich:  # drawn at its final size, so that nothing averages the grain
        grain *= 0.5
    signal += canvas.noise(rng, 12.0) * 0.012
    signal += canvas.noise(rng, 0.05) * np.float32(grain) * (0.5 + signal)
    film = np.where(signal > 0.7, 0.7 + 0.3 * np.tanh((signal - 0.7) / 0.3), signal)
    _mark_side(canvas, film, spec, rng)
    return np.asarray(np.clip(film, 0, 1), np.float32)


def _mark_side(canvas: Canvas, film: Array, spec: ChestSpec, rng: np.random.Generator) -> None:
    """The technologist's lead letter, an L on the patient's left."""
    x, y = rng.uniform(14.0, 15.0), rng.uniform(3.0, 4.0)
    if spec.view == "lateral":
        x = -x
    lines = [np.array([(x, y), (x, y + 1.4)]), np.array([(x - 0.14, y + 1.4), (x + 0.9, y + 1.4)])]
    letter = canvas.soften(canvas.ribbons(lines, 0.28), 0.05)
    np.maximum(film, 0.95 * letter, out=film)
