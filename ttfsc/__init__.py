"""ttfsc: from a trained time-to-first-spike network to cores, C and an energy report, bit-exact.

import ttfsc
net = ttfsc.load("network.py:dta", weights="dta.safetensors")
out = ttfsc.compile(net, targets=["c", "noc"])
out.run(x).labels
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ttfsc import ir, passes
    from ttfsc.api import compile, load
    from ttfsc.ir import TtfsError

__all__ = ["TtfsError", "__version__", "compile", "ir", "load", "passes"]


def __getattr__(name: str) -> Any:
    """Everything but the version is imported when it is first used: `import ttfsc` costs nothing."""
    from importlib import import_module

    if name in ("ir", "passes"):
        return import_module(f"ttfsc.{name}")
    if name in ("compile", "load"):
        return getattr(import_module("ttfsc.api"), name)
    if name == "TtfsError":
        return import_module("ttfsc.ir").TtfsError
    raise AttributeError(f"module 'ttfsc' has no attribute '{name}'")
