"""Shared by the ONNX tests: compare an exported net with the interpreter, spike by spike."""

from typing import Any, cast

import numpy as np
import onnx

from ttfsc.backends.onnx import emit
from ttfsc.backends.onnx.engine import OnnxEngine
from ttfsc.ir import OPEN, Array, Builder, Dense, Fire, Flatten, Input, Net, Ref, Type, run


def assert_equal(net: Net, x: Array) -> None:
    """Every layer's values, scores and labels, types included."""
    want, got = run(net, x), OnnxEngine(emit(net), threads=1).run(x)
    assert list(got.spikes) == list(want.spikes)
    for name, spikes in want.spikes.items():
        assert got.spikes[name].dtype == spikes.dtype
        np.testing.assert_array_equal(got.spikes[name], spikes, err_msg=name)
    assert got.scores.dtype == np.int64
    np.testing.assert_array_equal(got.scores, want.scores)
    np.testing.assert_array_equal(got.labels, want.labels)


def check_form(model: onnx.ModelProto) -> None:
    """The ONNX project's own checker, shape inference included."""
    cast("Any", onnx.checker).check_model(model, full_check=True)


class Maker:
    """A net of integers in few words: synapses and tables by name."""

    def __init__(self, source: Type, *, ticks: int = 8) -> None:
        self.b, self.here = Builder("n", ticks=ticks), "in"
        self.b.add(Input(name="in", type=source))

    def weights(self, name: str, w: Array, bits: int = 8) -> dict[str, Any]:
        return {"x": Ref(self.here), "w": self.b.array(f"{name}.w", w.astype(np.int8)), "bits": bits}

    def fire(self, name: str, v: str, theta: Array, *, last: bool = False) -> None:
        table = self.b.array(f"{name}.theta", np.asarray(theta, np.int64))
        self.b.add(Fire(name=name, type=OPEN, v=Ref(v), theta=table, force_last=last))
        self.here = name

    def flat(self) -> None:
        if len(self.b.types[self.here].shape) > 1:
            self.here = self.b.add(Flatten(name=f"{self.here}.row", type=OPEN, x=Ref(self.here))).name

    def dense(self, name: str, w: Array, **more: Any) -> str:
        return self.b.add(Dense(name=name, type=OPEN, **self.weights(name, w), **more)).name
