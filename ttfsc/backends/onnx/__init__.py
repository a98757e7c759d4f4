"""A quantised net as plain ONNX: standard operators, the same spikes and scores bit for bit, on any onnxruntime.

`emit` makes the file; `ttfsc.backends.onnx.engine` runs it (onnxruntime is imported there and nowhere else).
"""

from ttfsc.backends.onnx.emit import FILE, OPSET, RANGE, SPIKES, emit

__all__ = ["FILE", "OPSET", "RANGE", "SPIKES", "emit"]
