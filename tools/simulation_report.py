"""Compare simulated alerts with real ones: the table and pictures of docs/simulation.md.

Run from the root of the project, with the train extra installed::

    python tools/simulation_report.py --data FOLDER_WITH_lsst_ztf_AND_catalogs

Without the folder only the contact sheets are drawn. Pixels of real alerts go into no picture: only their
statistics.
"""

import argparse
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np
from astropy.table import Table
from PIL import Image

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from broker.alert import BANDS, ROLES, Alert, Survey
from broker.avro.deserializer import Deserializer
from broker.cutouts import Cutout, read_cutout
from broker.errors import CutoutError
from broker.geometry import LARGEST_PIXEL, native_scale, sky_and_noise
from broker.photometry import magnitude
from broker.survey import WANTED, read_alert
from encoder.simulate import CLASSES, simulated_alerts
from encoder.simulate.populations import Z_GRID, draw_galaxy, redshift_and_type

IMAGES = Path("docs/images")
I_BAND = BANDS.index("i")
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Seen:
    """An alert and its stamps."""

    alert: Alert
    cutouts: Sequence[Cutout | None]


def real(folder: Path, survey: Survey) -> list[Seen]:
    """Real alerts of a survey; of Rubin those of schemas 9.0 and 10.0, which are of real sky."""
    folders = ("ztf",) if survey is Survey.ZTF else ("lsst/v9_0", "lsst/v10_0")
    deserialize = Deserializer(WANTED)
    paths = sorted(p for f in folders for p in (folder / f).rglob("*.avro"))
    return [_read(read_alert(deserialize(path.read_bytes()))) for path in paths]


def _read(alert: Alert) -> Seen:
    cutouts: list[Cutout | None] = []
    for data in alert.cutouts:
        try:
            cutouts.append(None if data is None else read_cutout(data, survey=alert.survey))
        except CutoutError:
            cutouts.append(None)
    return Seen(alert, cutouts)


def simulated(survey: Survey, count: int, seed: int) -> list[Seen]:
    """As many simulated ones, all classes alike."""
    return [Seen(a.alert(), a.cutouts()) for a in simulated_alerts(range(count), seed, (survey,), CLASSES)]


def _noise(seen: Seen, role: int) -> float:
    cutout = seen.cutouts[role]
    if cutout is None:
        return np.nan
    valid = np.abs(cutout.image) < LARGEST_PIXEL
    return sky_and_noise(cutout.image, valid, cutout.variance, survey=seen.alert.survey, role=ROLES[role])[1]


def _of_image(role: int, measure: Callable[[np.ndarray, float], float]) -> Callable[[Seen], float]:
    def measured(seen: Seen) -> float:
        cutout, noise = seen.cutouts[role], _noise(seen, role)
        return np.nan if cutout is None or not noise > 0 else measure(cutout.image, noise)

    return measured


def _peak(image: np.ndarray, noise: float) -> float:
    return float((np.nanmax(image) - np.nanmedian(image)) / noise)


def _trough(image: np.ndarray, noise: float) -> float:
    return float((np.nanmin(image) - np.nanmedian(image)) / noise)


def _correlation(image: np.ndarray, noise: float) -> float:
    flat = np.clip(image - np.nanmedian(image), -3 * noise, 3 * noise)
    return float(np.nanmean(flat[:, 1:] * flat[:, :-1]) / np.nanmean(flat**2))


def _fwhm(role: int) -> Callable[[Seen], float]:
    def measured(seen: Seen) -> float:
        cutout = seen.cutouts[role]
        if cutout is None or cutout.psf_fwhm is None:
            return np.nan
        return cutout.psf_fwhm * native_scale(seen.alert.survey, cutout)

    return measured


def _own_band_magnitude(seen: Seen) -> float:
    band = seen.alert.band or "r"
    return float(magnitude(seen.alert.photometry)[BANDS.index(band)])


def _side(seen: Seen) -> float:
    return np.nan if seen.cutouts[0] is None else float(seen.cutouts[0].image.shape[0])


SHARED: dict[str, Callable[[Seen], float]] = {
    "host light in the alert's band (AB mag)": _own_band_magnitude,
    **{f"noise of a pixel, {role}": (lambda s, k=k: _noise(s, k)) for k, role in enumerate(ROLES)},
    **{f"brightest pixel / noise, {role}": _of_image(k, _peak) for k, role in enumerate(ROLES)},
    "darkest pixel / noise, difference": _of_image(2, _trough),
    "correlation of neighbours, difference": _of_image(2, _correlation),
}
MEASURES: dict[Survey, dict[str, Callable[[Seen], float]]] = {
    Survey.LSST: {
        "stamp side (px)": _side,
        "PSF FWHM, science (arcsec)": _fwhm(0),
        "PSF FWHM, template (arcsec)": _fwhm(1),
        **SHARED,
    },
    Survey.ZTF: {
        "sky level, science (DN)": _of_image(0, lambda image, _noise: float(np.nanmedian(image))),
        **SHARED,
        "pixels without data, science": _of_image(0, lambda image, _noise: float(np.isnan(image).mean())),
    },
}


def _values(alerts: Iterable[Seen], measure: Callable[[Seen], float]) -> np.ndarray:
    return np.array([measure(a) for a in alerts])


def _row(values: np.ndarray) -> str:
    return " · ".join(f"{v:.3g}" for v in np.nanpercentile(values, PERCENTILES))


def compare(survey: Survey, ours: list[Seen], theirs: list[Seen]) -> None:
    """Print the table of one survey and draw its histograms."""
    measures = MEASURES[survey]
    print(f"\n| {survey.value}: {PERCENTILES} percentiles | real ({len(theirs)}) | simulated ({len(ours)}) |")
    print("|---|---|---|")
    columns = 4
    rows = -(-len(measures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(14, 2.4 * rows))
    for axis, (name, measure) in zip(axes.flat, measures.items(), strict=False):
        real_values, our_values = _values(theirs, measure), _values(ours, measure)
        print(f"| {name} | {_row(real_values)} | {_row(our_values)} |")
        _histogram(axis, real_values, our_values, name)
    for axis in axes.flat[len(measures) :]:
        axis.axis("off")
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(IMAGES / f"simulation_{survey.value}_compared.png", dpi=70)


def _histogram(axis: plt.Axes, real_values: np.ndarray, our_values: np.ndarray, name: str) -> None:
    both = np.concatenate([real_values, our_values])
    low, high = np.nanpercentile(both, (1, 99))
    logarithmic = low > 0 and high / low > 30  # noqa: PLR2004
    if high <= low:
        high = low + 1
    bins = np.geomspace(low, high, 30) if logarithmic else np.linspace(low, high, 30)
    for values, label, colour in ((real_values, "real", "black"), (our_values, "simulated", "tab:orange")):
        finite = values[np.isfinite(values)]
        weights = np.full(len(finite), 1 / max(len(finite), 1))
        axis.hist(
            np.clip(finite, low, high), bins, weights=weights, histtype="step", label=label, color=colour
        )
    axis.set_title(name, fontsize=8)
    axis.tick_params(labelsize=7)
    if logarithmic:
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())


def compare_catalogues(folder: Path) -> None:
    """Redshifts and sizes against DC2 and CatSim, by magnitude."""
    with h5py.File(folder / "test_dc2_training_9816.hdf5") as file:
        dc2_z, dc2 = file["photometry/redshift"][:], {b: file[f"photometry/mag_{b}_lsst"][:] for b in "gri"}
    catsim = Table.read(folder / "catsim_10k.fits")
    rng = np.random.default_rng(0)
    print("\n| i | z: DC2 | z: simulated | g-i: DC2 | g-i: simulated | disk size: CatSim | simulated |")
    print("|---|---|---|---|---|---|---|")
    for middle in (18.5, 20.0, 21.0, 22.0, 23.0, 24.0):
        near = np.abs(dc2["i"] - middle) < 0.5  # noqa: PLR2004
        numbers = redshift_and_type(middle, I_BAND).sum(axis=0)
        ours = np.interp((0.05, 0.25, 0.5, 0.75, 0.95), np.cumsum(numbers) / numbers.sum(), Z_GRID)
        # In the proportions of the luminosity functions: disks and bulges as red and blue types are.
        drawn = [draw_galaxy(_field_class(middle, rng), middle, I_BAND, rng) for _ in range(500)]
        colour = np.array([g.magnitudes[1] - g.magnitudes[3] for g in drawn])
        size = np.array([g.half_light_radius for g in drawn if g.bulge_fraction < 0.5])  # noqa: PLR2004
        disks = (np.abs(catsim["i_ab"] - middle) < 0.5) & (catsim["a_d"] > 0)  # noqa: PLR2004
        print(
            f"| {middle} | {_row(dc2_z[near])} | {' · '.join(f'{z:.3g}' for z in ours)} "
            f"| {_row((dc2['g'] - dc2['i'])[near])} | {_row(colour)} "
            f"| {_row(np.asarray(catsim['a_d'][disks]))} | {_row(size)} |"
        )


def _field_class(apparent: float, rng: np.random.Generator) -> str:
    by_type = redshift_and_type(apparent, I_BAND).sum(axis=1)
    return "bulge" if rng.uniform() < by_type[0] / by_type.sum() else "disk"


def contact_sheet(survey: Survey, seed: int, per_class: int = 5) -> None:
    """Draw alerts of every class: science, template, difference."""
    figure, axes = plt.subplots(
        len(CLASSES), 3 * per_class, figsize=(0.75 * 3 * per_class, 0.75 * len(CLASSES))
    )
    for row, label in enumerate(CLASSES):
        found = simulated_alerts(range(per_class), seed + row, (survey,), (label,))
        for column, alert in enumerate(found):
            for role in range(len(ROLES)):
                axis = axes[row, 3 * column + role]
                image = alert.exposure.stamps[role]
                low, level = np.nanpercentile(image, (16, 50))
                shown = np.arcsinh((image - level) / (2 * max(level - low, 1e-9)))
                axis.imshow(shown, origin="lower", cmap="gray", vmin=-1, vmax=4)
                axis.axis("off")
        axes[row, 0].text(0.03, 0.05, label, color="white", fontsize=7, transform=axes[row, 0].transAxes)
    figure.subplots_adjust(0, 0, 1, 1, 0.03, 0.03)
    path = IMAGES / f"simulation_{survey.value}.png"
    figure.savefig(path, dpi=80)
    # Noise does not compress: 32 even shades of grey keep the file small.
    shades = np.asarray(Image.open(path).convert("L")) // 8 * 8
    Image.fromarray(shades).save(path, optimize=True)


def main() -> None:
    """Make everything."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description="Compare simulated alerts with real ones.")
    parser.add_argument("--data", type=Path, help="folder with lsst, ztf and catalogs")
    parser.add_argument("--count", type=int, default=700, help="simulated alerts of each survey")
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for survey in Survey:
        contact_sheet(survey, options.seed)
        if options.data is not None:
            compare(survey, simulated(survey, options.count, options.seed), real(options.data, survey))
    if options.data is not None:
        compare_catalogues(options.data / "catalogs")


if __name__ == "__main__":
    main()
