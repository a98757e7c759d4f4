"""Chips as data: what a mesh chip holds and what its events cost, every figure with its source."""

from ttfsc.hardware.chip import UNITS, Chip, Figure, chip_names, load_chip

__all__ = ["UNITS", "Chip", "Figure", "chip_names", "load_chip"]
