"""Hosts in six bands into one set of images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broker.alert import BANDS
from broker.errors import SettingsError
from encoder.images.archive import ImageSet, Kind
from encoder.simulate.fourier import PIXEL_SCALE
from encoder.simulate.hosts import HOST_CLASSES, Host, simulate_host
from encoder.simulate.parts import IMAGES_PER_PART, simulate_in_parts
from encoder.simulate.populations import GALAXIES


@dataclass(frozen=True, slots=True)
class HostDrawing:
    """Some hosts of a seed; see `encoder.simulate.parts.Drawing`."""

    count: int
    seed: int
    visits: int
    anomaly_share: float

    def note(self) -> dict[str, Any]:
        """Tell this run from others."""
        return asdict(self)

    def draw(self, numbers: Sequence[int]) -> ImageSet:
        """Draw every visit of some hosts."""
        hosts = [
            simulate_host(self.seed, number, visit=visit, anomaly_share=self.anomaly_share)
            for number in numbers
            for visit in range(self.visits)
        ]
        return to_images(hosts, HOST_CLASSES if self.anomaly_share else GALAXIES)


def to_images(hosts: Sequence[Host], classes: tuple[str, ...]) -> ImageSet:
    """Lay hosts into a set of images."""
    return ImageSet.of(
        np.stack([h.images for h in hosts]),
        kind=Kind.FLUX,
        bands=BANDS,
        classes=classes,
        pixel_scale=PIXEL_SCALE,
        label=np.array([-1 if h.label is None else classes.index(h.label) for h in hosts]),
        redshift=np.array([h.redshift for h in hosts]),
        ebv=np.array([h.ebv for h in hosts]),
        noise=np.stack([h.noise for h in hosts]),
        psf_fwhm=np.stack([h.psf_fwhm for h in hosts]),
        photometry=np.stack([h.photometry for h in hosts]),
        photometry_error=np.stack([h.photometry_error for h in hosts]),
        object_id=np.array([h.object_id for h in hosts]),
    )


def simulate_hosts(
    n: int,
    seed: int,
    path: Path,
    *,
    processes: int = 1,
    visits: int = 1,
    anomaly_share: float = 0.0,
    images_per_part: int = IMAGES_PER_PART,
) -> None:
    """Simulate galaxies in six bands into a set of images; see `encoder.simulate.parts.simulate_in_parts`.

    Parameters
    ----------
    n : int
        Objects.
    seed : int
        With the object's number it decides everything: the same for any number of processes.
    path : Path
    processes : int
    visits : int
        Images of each object, under conditions of their own.
    anomaly_share : float
        Of objects that are lens arcs, rings, double nuclei or tidal tails, with these labels. Above zero the
        set is one to test with, not to train on.
    images_per_part : int

    Raises
    ------
    SettingsError
        A number is out of range, the file exists, or the parts beside it are of another run.
    """
    if not 0 <= anomaly_share <= 1:
        raise SettingsError(f"the share of anomalies is {anomaly_share}: wanted between 0 and 1")
    drawing = HostDrawing(n, seed, visits, anomaly_share)
    simulate_in_parts(drawing, path, processes=processes, images_per_part=images_per_part)
