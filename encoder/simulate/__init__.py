"""Simulated alerts of both surveys and images of galaxies, drawn with GalSim; see ``docs/simulation.md``."""

from encoder.kept_out import ANOMALIES
from encoder.simulate.driver import simulated_alerts
from encoder.simulate.host_archive import simulate_hosts
from encoder.simulate.pictures import simulate_pictures
from encoder.simulate.populations import CLASSES
from encoder.simulate.shards import simulate

__all__ = ["ANOMALIES", "CLASSES", "simulate", "simulate_hosts", "simulate_pictures", "simulated_alerts"]
