"""Mapping files for a core mesh: written from a mapped net, read back, and run from the files alone.

A CanMore-*class* format of our own (docs/mapping-format.md); nothing here claims to be compatible with CanMore.
"""

from ttfsc.backends.noc.emit import emit
from ttfsc.backends.noc.engine import Mesh, check_input, run
from ttfsc.backends.noc.image import BINARY, MAPPING, SCHEMA, VERSION, Image
from ttfsc.backends.noc.load import load, read
from ttfsc.backends.noc.schema import mapping_schema

__all__ = [
    "BINARY", "MAPPING", "SCHEMA", "VERSION", "Image", "Mesh", "check_input", "emit", "load", "mapping_schema", "read",
    "run",
]  # fmt: skip
