"""C99 for a quantized net, and the host engine that runs it."""

from ttfsc.backends.c.emit import cost, emit, emit_model
from ttfsc.backends.c.engine import Engine
from ttfsc.backends.c.view import Cost

__all__ = ["Cost", "Engine", "cost", "emit", "emit_model"]
