"""Nightjar's encoder: simulation, self-supervised training, heads and export; needs the ``train`` extra."""
