"""Shipped doubles and packets: what tests, demonstrations and simulations are made of."""
