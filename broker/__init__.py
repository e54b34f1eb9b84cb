"""Nightjar's broker: alerts in, enriched alerts out. Installs and runs without torch."""
