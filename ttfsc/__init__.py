"""ttfsc: from a trained time-to-first-spike network to cores, C and an energy report, bit-exact."""

__version__ = "0.1.0"
