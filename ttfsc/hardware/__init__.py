"""Chips as data: what a mesh chip holds and what its events cost, every figure with its source."""

from ttfsc.hardware.chip import Chip, Figure, chip_names, load_chip

__all__ = ["Chip", "Figure", "chip_names", "load_chip"]
