"""Extinction by the dust of our Galaxy in each survey's bands."""

from broker.alert import Survey

EXTINCTION = {
    Survey.LSST: (4.145, 3.237, 2.273, 1.684, 1.323, 1.088),
    Survey.ZTF: (4.239, 3.172, 2.271, 1.682, 1.322, 1.087),
}
"""A_band / E(B-V) in the order of `broker.alert.BANDS`, R_V = 3.1, on the scale of Schlegel, Finkbeiner and
Davis 1998 as recalibrated by Schlafly and Finkbeiner 2011 (ApJ 737, 103, table 6): LSST's filters; for ZTF
Pan-STARRS1's, from whose catalogue its packets' photometry is, and SDSS's u."""
