"""Simulated alerts of both surveys, drawn with GalSim and labelled; see ``docs/simulation.md``."""

from encoder.simulate.driver import simulated_alerts
from encoder.simulate.populations import CLASSES
from encoder.simulate.shards import simulate

__all__ = ["CLASSES", "simulate", "simulated_alerts"]
