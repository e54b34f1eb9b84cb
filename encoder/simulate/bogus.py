"""Artefacts that pipelines mistake for transients, put into the three stamps in place.

Amplitudes are in the noise of the science stamp. Each function takes the stamps (3, h, w) in the order of
ROLES and what it needs of the visit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, laplace

from broker.alert import Survey
from encoder.simulate.chance import happens
from encoder.simulate.colours import FloatArray

SCIENCE, TEMPLATE, DIFFERENCE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Canvas:
    """Stamps to spoil, and what is known of them.

    Attributes
    ----------
    survey : Survey
    stamps : FloatArray, shape (3, h, w)
        Changed in place; sky not yet added.
    static : FloatArray, shape (h, w)
        Noiseless static sky in the science stamp.
    noise : float
        Of a science pixel.
    noise_pixels : float
        Effective area of the PSF.
    sigma : float
        Gaussian width of the PSF in pixels.
    x, y : float
        The alert's position.
    """

    survey: Survey
    stamps: FloatArray
    static: FloatArray
    noise: float
    noise_pixels: float
    sigma: float
    x: float
    y: float

    def add(self, light: FloatArray) -> None:
        """Add light to science and difference."""
        self.stamps[SCIENCE] += light
        self.stamps[DIFFERENCE] += light

    def grid(self) -> tuple[FloatArray, FloatArray]:
        """Columns and rows relative to the alert, each of shape (h, w)."""
        rows, columns = np.indices(self.static.shape)
        return np.asarray(columns - self.x), np.asarray(rows - self.y)


def dipole(canvas: Canvas, rng: np.random.Generator) -> None:
    """Subtraction of a misplaced template: what is left of a bright source is its gradient."""
    gy, gx = np.gradient(canvas.static)
    angle = rng.uniform(0, 2 * np.pi)
    residual = np.cos(angle) * gx + np.sin(angle) * gy
    peak = np.abs(residual).max()
    if peak <= 0.0:
        hot_pixels(canvas, rng)
        return
    wanted = canvas.noise * rng.uniform(6, 40)
    shift = min(wanted / peak, 0.6)
    canvas.stamps[DIFFERENCE] += shift * residual
    _flux_mismatch(canvas, rng.normal(0, 0.01))


def rings(canvas: Canvas, rng: np.random.Generator) -> None:
    """Subtraction with a wrong kernel: a bright source leaves a bull's eye, and noise in its core."""
    curvature = laplace(gaussian_filter(canvas.static, 0.4 * canvas.sigma))
    peak = np.abs(curvature).max()
    if peak <= 0.0:
        hot_pixels(canvas, rng)
        return
    sign = rng.choice((-1.0, 1.0))
    canvas.stamps[DIFFERENCE] += sign * curvature / peak * canvas.noise * rng.uniform(8, 50)
    brightness = canvas.static / max(float(canvas.static.max()), 1e-9)
    speckle = gaussian_filter(rng.normal(size=canvas.static.shape), 0.7) * 2.4
    canvas.stamps[DIFFERENCE] += speckle * brightness * canvas.noise * rng.uniform(3, 15)


def saturated(canvas: Canvas, rng: np.random.Generator) -> None:
    """Put a saturated star over the alert: flat top, bleeding, spikes and a ragged difference."""
    x, y = canvas.grid()
    offset = canvas.sigma * rng.uniform(0, 6, 2) * rng.choice((-1, 1), 2)
    radius = np.hypot(x - offset[0], y - offset[1])
    core = canvas.sigma * rng.uniform(2.0, 4.5)
    top = canvas.noise * 10 ** rng.uniform(2.2, 3.5)
    glow = top * (1 + (radius / core) ** 2) ** -rng.uniform(1.8, 2.8)
    along = x - offset[0] if canvas.survey is Survey.LSST else y - offset[1]
    across = y - offset[1] if canvas.survey is Survey.LSST else x - offset[0]
    length = core * rng.uniform(0.8, 4)
    bleeds = np.abs(across) < rng.uniform(0.7, 1.8) * np.clip(1.2 - np.abs(along) / length, 0, 1)
    spikes = top * 0.02 * np.exp(-np.abs(across) / 0.8) / (1 + np.abs(along) / core)
    flat = (radius < core * 0.55) | bleeds
    for role in (SCIENCE, TEMPLATE):
        level = top * (1 + 0.05 * rng.normal(size=x.shape))
        canvas.stamps[role] = np.where(flat, level, canvas.stamps[role] + glow + spikes)
    ragged = gaussian_filter(rng.normal(size=x.shape), 0.8) * 3 * canvas.noise * rng.uniform(5, 30)
    canvas.stamps[DIFFERENCE] += ragged * np.exp(-0.5 * (radius / (1.3 * core)) ** 2)
    canvas.stamps[DIFFERENCE] += np.where(bleeds, canvas.noise * rng.normal(0, 25), 0.0)
    if canvas.survey is Survey.ZTF and happens(0.7, rng):
        half = int(np.ceil(core * rng.uniform(0.8, 1.6)))
        square = (np.abs(x - offset[0]) <= half) & (np.abs(y - offset[1]) <= half)
        canvas.stamps[:, square] = np.nan


def cosmic_ray(canvas: Canvas, rng: np.random.Generator) -> None:
    """Deposit charge along a straight track of no width: sharper than any star."""
    length = rng.exponential(4.0) + 0.5
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-0.5, 0.5, max(int(3 * length), 2)) * length
    light = np.zeros_like(canvas.static)
    jitter = rng.normal(0, 0.15, (2, len(steps)))
    columns = np.rint(canvas.x + steps * np.cos(angle) + jitter[0]).astype(int)
    rows = np.rint(canvas.y + steps * np.sin(angle) + jitter[1]).astype(int)
    inside = (columns >= 0) & (columns < light.shape[1]) & (rows >= 0) & (rows < light.shape[0])
    np.add.at(light, (rows[inside], columns[inside]), rng.uniform(0.5, 1.5, int(inside.sum())))
    light = gaussian_filter(light, 0.3)
    canvas.add(light / light.max() * canvas.noise * 10 ** rng.uniform(1.0, 2.2))


def trail(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw a satellite or aircraft across the stamp, or a streak that ends in it, as wide as the PSF."""
    x, y = canvas.grid()
    angle = rng.uniform(0, np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = -np.sin(angle) * x + np.cos(angle) * y - rng.normal(0, 0.5)
    wide = happens(0.2, rng)
    width = canvas.sigma * (rng.uniform(1.5, 3.0) if wide else rng.uniform(1.0, 1.3))
    light = np.exp(-0.5 * (across / width) ** 2)
    if happens(0.4, rng):
        half = canvas.sigma * rng.uniform(3, 9)
        light *= 1 / (1 + np.exp((np.abs(along) - half) / (0.6 * canvas.sigma)))
    if happens(0.3, rng):  # a tumbling one glints
        light *= 1 + 0.8 * np.sin(along / canvas.sigma / rng.uniform(1, 4) + rng.uniform(0, 6))
    canvas.add(light * canvas.noise * 10 ** rng.uniform(0.3, 1.6))


def ghost(canvas: Canvas, rng: np.random.Generator) -> None:
    """Add an out-of-focus reflection: the edge of a pupil, or a patch as large as the stamp."""
    x, y = canvas.grid()
    radius = canvas.sigma * rng.uniform(6, 25)
    angle = rng.uniform(0, 2 * np.pi)
    away = radius * rng.uniform(0.7, 1.1)
    distance = np.hypot(x - away * np.cos(angle), y - away * np.sin(angle))
    disc = 1 / (1 + np.exp((distance - radius) / (1.2 * canvas.sigma)))
    hole = 1 / (1 + np.exp((distance - rng.uniform(0.3, 0.7) * radius) / (1.2 * canvas.sigma)))
    canvas.add((disc - hole * rng.uniform(0, 1)) * canvas.noise * rng.uniform(1.2, 6))


def edge(canvas: Canvas, rng: np.random.Generator) -> None:
    """Let the detector end near the alert: no data beyond, and a bright or dark border in the difference."""
    x, y = canvas.grid()
    tilt = rng.normal(0, 0.3) if happens(0.3, rng) else 0.0
    angle = rng.integers(4) * np.pi / 2 + tilt
    depth = np.cos(angle) * x + np.sin(angle) * y
    limit = canvas.sigma * rng.uniform(0.3, 3.0)
    border = np.exp(-0.5 * ((depth - limit) / rng.uniform(0.7, 1.5)) ** 2) * (depth < limit)
    level = canvas.noise * rng.uniform(5, 40) * rng.choice((-1, 1))
    texture = 1 + 0.4 * gaussian_filter(rng.normal(size=x.shape), 1.0) * 3.5
    canvas.stamps[DIFFERENCE] += level * border * texture
    canvas.stamps[SCIENCE] += 0.7 * level * border * texture
    beyond = np.nan if canvas.survey is Survey.ZTF or happens(0.5, rng) else 0.0
    canvas.stamps[DIFFERENCE][depth > limit] = beyond
    canvas.stamps[SCIENCE][depth > limit] = beyond


def hot_pixels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Light up one or a few pixels, or part of a column, sharper than the PSF."""
    light = np.zeros_like(canvas.static)
    row, column = round(canvas.y), round(canvas.x)
    if happens(0.3, rng):
        low = int(rng.integers(0, row + 1))
        light[low:, column] = 1.0
        low_level, high_level = 0.3, 1.2
    else:
        light[row, column] = 1.0
        for _ in range(rng.poisson(0.7)):
            dr, dc = rng.integers(-1, 2, 2)
            light[row + dr, column + dc] = rng.uniform(0.3, 1.0)
        low_level, high_level = 0.9, 1.8
    canvas.add(light * canvas.noise * 10 ** rng.uniform(low_level, high_level) * rng.choice((1, 1, 1, -1)))


def hole(canvas: Canvas, rng: np.random.Generator) -> None:
    """Take light away where there is none: a spot below the sky, of crosstalk or of a defect of the detector."""
    x, y = canvas.grid()
    angle = rng.uniform(0, np.pi)
    along, across = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
    width = canvas.sigma * rng.uniform(0.5, 1.1)
    length = width * (rng.uniform(1.3, 3.0) if happens(0.3, rng) else 1.0)
    light = np.exp(-0.5 * ((along / length) ** 2 + (across / width) ** 2))
    canvas.add(-light * canvas.noise * 10 ** rng.uniform(0.5, 2.0))


def beside_star(canvas: Canvas, rng: np.random.Generator) -> None:
    """Put a speck into the halo of a bright star, whose own place is badly subtracted."""
    x, y = canvas.grid()
    angle, away = rng.uniform(0, 2 * np.pi), canvas.sigma * rng.uniform(5, 17)
    dx, dy = x - away * np.cos(angle), y - away * np.sin(angle)
    core = np.exp(-0.5 * np.hypot(dx, dy) ** 2 / canvas.sigma**2)
    top = canvas.noise * 10 ** rng.uniform(2.0, 3.3)
    halo = 0.004 * (1 + (np.hypot(dx, dy) / (3 * canvas.sigma)) ** 2) ** -1.3
    for role in (SCIENCE, TEMPLATE):
        canvas.stamps[role] += top * (core + halo)
    tilt = rng.uniform(0, 2 * np.pi)
    dipole = core * (np.cos(tilt) * dx + np.sin(tilt) * dy) / canvas.sigma
    speckle = gaussian_filter(rng.normal(size=x.shape), 0.8) * 3 * np.sqrt(core)
    canvas.stamps[DIFFERENCE] += top * (rng.uniform(0.01, 0.15) * dipole + rng.uniform(0.01, 0.1) * speckle)
    _speck(canvas, rng)


def _speck(canvas: Canvas, rng: np.random.Generator) -> None:
    """Add a faint blur of light at the position: part of a spike, a ghost, or noise on the halo."""
    x, y = canvas.grid()
    angle = rng.uniform(0, np.pi)
    along, across = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
    width = canvas.sigma * rng.uniform(0.5, 1.3)
    length = width * rng.uniform(1.0, 2.5)
    light = np.exp(-0.5 * ((along / length) ** 2 + (across / width) ** 2))
    canvas.add(light * (1 + 0.5 * rng.normal(size=x.shape)) * canvas.noise * 10 ** rng.uniform(0.5, 1.2))


def column(canvas: Canvas, rng: np.random.Generator) -> None:
    """Let a column of the detector glow from end to end, as a bleeding star far away makes it, with beads on it."""
    x, y = canvas.grid()
    across, along = (x, y) if canvas.survey is Survey.ZTF else (y, x)
    width = rng.uniform(0.5, 1.3)
    streak = np.exp(-0.5 * ((across - rng.normal(0, 0.5)) / width) ** 2)
    level = canvas.noise * 10 ** rng.uniform(0.0, 0.8)
    beads = np.exp(-0.5 * (across**2 + along**2) / (canvas.sigma * rng.uniform(0.5, 1.1)) ** 2)
    canvas.add(level * streak + beads * canvas.noise * 10 ** rng.uniform(0.6, 1.3))
    if happens(0.4, rng):
        canvas.stamps[TEMPLATE] += level * rng.uniform(0.2, 1.0) * streak
        canvas.stamps[DIFFERENCE] -= level * rng.uniform(0.0, 0.6) * streak


def template_artefact(canvas: Canvas, rng: np.random.Generator) -> None:
    """Leave a cosmic ray or trail in the template: a hole in the difference."""
    spoiled = np.zeros((3, *canvas.static.shape))
    other = Canvas(
        canvas.survey,
        spoiled,
        canvas.static,
        canvas.noise,
        canvas.noise_pixels,
        canvas.sigma,
        canvas.x,
        canvas.y,
    )
    (cosmic_ray if happens(0.5, rng) else trail)(other, rng)
    light = gaussian_filter(spoiled[SCIENCE], 0.4)
    canvas.stamps[TEMPLATE] += light
    canvas.stamps[DIFFERENCE] -= light


def _flux_mismatch(canvas: Canvas, share: float) -> None:
    canvas.stamps[DIFFERENCE] += share * canvas.static


Artefact = Callable[[Canvas, np.random.Generator], None]

ARTEFACTS: tuple[tuple[Artefact, float, bool], ...] = (
    (dipole, 0.18, True),
    (rings, 0.12, True),
    (saturated, 0.08, True),
    (cosmic_ray, 0.13, False),
    (beside_star, 0.12, False),
    (trail, 0.08, False),
    (hole, 0.08, False),
    (hot_pixels, 0.07, False),
    (edge, 0.06, False),
    (ghost, 0.03, False),
    (template_artefact, 0.03, False),
    (column, 0.02, False),
)
"""Artefact, its share, and whether it takes a bright source to make one. Holes, specks beside stars and columns were
added after a look at ZTF alerts that braai scores below 0.2; the shares are guesses of how often each kind is met."""


def draw_artefact(rng: np.random.Generator) -> tuple[Artefact, bool]:
    """Draw a kind of artefact, and whether it needs a bright source at the position."""
    shares = np.array([share for _, share, _ in ARTEFACTS])
    function, _, bright = ARTEFACTS[int(rng.choice(len(ARTEFACTS), p=shares / shares.sum()))]
    return function, bright
