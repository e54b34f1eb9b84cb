"""Simulated alerts of both surveys, drawn with GalSim and labelled; see ``docs/simulation.md``."""

from encoder.simulate.driver import simulate, simulated_alerts
from encoder.simulate.populations import CLASSES

__all__ = ["CLASSES", "simulate", "simulated_alerts"]
