"""One simulated alert: its truth, and what a packet or a shard takes from it."""

from dataclasses import dataclass

import numpy as np

from broker.alert import BANDS, ROLES, Alert, Float32Array, Survey
from broker.cutouts import Cutout, effective_fwhm
from broker.photometry import forced_template_flux, ps1_source_flux
from encoder.simulate.colours import FloatArray
from encoder.simulate.exposures import Exposure
from encoder.simulate.photometry import Ps1Source
from encoder.simulate.visits import Conditions

OBJECT_IDS = 10_000_000
"""Objects of one seed are numbered below this."""


@dataclass(frozen=True, slots=True)
class SimulatedAlert:
    """One alert, its truth, and everything a packet is made of.

    Attributes
    ----------
    label : str
    redshift : float
        Of the host; NaN without one.
    ebv : float
    alert_id : int
    object_number : int
        Rubin's diaObjectId; ZTF's objectId is spelled from it.
    conditions : Conditions
    exposure : Exposure
    template_flux : FloatArray, shape (6,)
        Rubin: forced at the position, nJy, NaN in bands the packet does not know.
    ps1 : Ps1Source
        ZTF: the nearest catalogued source.
    """

    label: str
    redshift: float
    ebv: float
    alert_id: int
    object_number: int
    conditions: Conditions
    exposure: Exposure
    template_flux: FloatArray
    ps1: Ps1Source

    @property
    def survey(self) -> Survey:
        """Which survey sent it."""
        return self.conditions.survey

    @property
    def object_id(self) -> str:
        """As the survey spells it."""
        if self.survey is Survey.LSST:
            return str(self.object_number)
        return ztf_name(self.object_number)

    @property
    def photometry(self) -> Float32Array:
        """As the broker reads it from the packet, nJy, shape (6,)."""
        if self.survey is Survey.LSST:
            return forced_template_flux(BANDS, [float(f) for f in self.template_flux])
        return ps1_source_flux(self.ps1.magnitudes, self.ps1.distance)

    def cutouts(self) -> tuple[Cutout, ...]:
        """Stamps as the broker would read them from the packet, in the order of ROLES."""
        conditions, exposure = self.conditions, self.exposure
        rubin = self.survey is Survey.LSST
        psfs = (conditions.science_psf, conditions.template_psf, conditions.science_psf)
        return tuple(
            Cutout(
                image=exposure.stamps[k].astype(np.float32),
                variance=exposure.variance[k].astype(np.float32) if rubin else None,
                psf_fwhm=effective_fwhm(psfs[k].kernel) if rubin else None,
                centre=(conditions.frame.x, conditions.frame.y) if rubin else None,
                pixel_scale=conditions.pixel_scale if rubin else None,
            )
            for k in range(len(ROLES))
        )

    def alert(self) -> Alert:
        """As the broker would read it, without the packet's bytes."""
        frame = self.conditions.frame
        return Alert(
            survey=self.survey,
            form="simulated",
            alert_id=self.alert_id,
            object_id=self.object_id,
            ra=0.0,
            dec=0.0,
            mjd=0.0,
            band=BANDS[self.conditions.band],
            datum=b"",
            cutouts=(None, None, None),
            photometry=self.photometry,
            position=frame.detector_position,
        )


def ztf_name(number: int) -> str:
    """ZTF-like name of an object: ``ZTF``, two digits, seven letters."""
    letters = ""
    rest = number % 26**7
    for _ in range(7):
        rest, digit = divmod(rest, 26)
        letters = chr(ord("a") + digit) + letters
    return f"ZTF00{letters}"
