"""Galaxies as images of several bands: calibrated fluxes, or display pictures of which only the shape is true."""
