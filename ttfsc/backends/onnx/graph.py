"""An ONNX graph as it grows: nodes, initialisers stored once, names that never collide."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ttfsc.ir import Array

FLOAT, DOUBLE, INT64 = int(TensorProto.FLOAT), int(TensorProto.DOUBLE), int(TensorProto.INT64)


class RefusedError(Exception):
    """An op that has no exact form in ONNX; the text is the fact to report."""


@dataclass(frozen=True)
class Tensor:
    """A value of the graph that holds integers exactly: float32, or float64 where 24 bits are not enough."""

    name: str
    wide: bool = False

    @property
    def bits(self) -> int:
        """How many bits of mantissa it has."""
        return 53 if self.wide else 24


class Graph:
    """Collects nodes in order of computation."""

    def __init__(self, reserved: tuple[str, ...]) -> None:
        self.nodes = list[onnx.NodeProto]()
        self.initialisers = list[onnx.TensorProto]()
        self._names = set(reserved)
        self._constants = dict[tuple[str, tuple[int, ...], bytes], str]()

    def fresh(self, hint: str) -> str:
        """`hint`, or where that is taken `hint.1`, `hint.2`, ..."""
        name, n = hint, 0
        while name in self._names:
            n += 1
            name = f"{hint}.{n}"
        self._names.add(name)
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """One node; its name is that of its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=f"{kind}:{outputs[0]}", **attributes))

    def op(self, kind: str, *inputs: str, hint: str, **attributes: Any) -> str:
        """One node of one output, whose name is returned."""
        output = self.fresh(hint)
        self.node(kind, list(inputs), [output], **attributes)
        return output

    def constant(self, array: Array, hint: str) -> str:
        """An initialiser; equal ones share a name."""
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.fresh(hint)
            self.initialisers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def number(self, value: float, wide: bool) -> str:
        """A scalar."""
        return self.constant(np.asarray(value, np.float64 if wide else np.float32), f"const.{value:g}")

    def cast(self, name: str, to: int, hint: str) -> str:
        """The same numbers in another type."""
        return self.op("Cast", name, hint=hint, to=to)

    def widened(self, x: Tensor, wide: bool) -> Tensor:
        """x as float64 where that is asked for; never narrowed."""
        return Tensor(self.cast(x.name, DOUBLE, f"{x.name}.wide"), True) if wide and not x.wide else x

    def pair(self, kind: str, a: Tensor, b: Tensor, hint: str) -> Tensor:
        """An arithmetic node on two tensors, in the wider of their types."""
        wide = a.wide or b.wide
        return Tensor(self.op(kind, self.widened(a, wide).name, self.widened(b, wide).name, hint=hint), wide)

    def with_array(self, kind: str, a: Tensor, array: Array, hint: str) -> Tensor:
        """An arithmetic node on a tensor and a constant."""
        constant = self.constant(array.astype(np.float64 if a.wide else np.float32), f"{hint}.const")
        return Tensor(self.op(kind, a.name, constant, hint=hint), a.wide)

    def clip(self, x: Tensor, low: float | None, high: float | None, hint: str) -> Tensor:
        """x held inside low..high."""
        ends = ["" if end is None else self.number(end, x.wide) for end in (low, high)]
        return Tensor(self.op("Clip", x.name, *(ends if high is not None else ends[:1]), hint=hint), x.wide)
