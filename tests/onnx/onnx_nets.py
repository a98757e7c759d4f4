"""Small ONNX models, and the comparison of their nets with onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from onnx import TensorProto, helper, numpy_helper

from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.ir import Array, Net, run

OPSET = 17
Floats = npt.NDArray[np.float32]


class Model:
    """An ONNX model under construction: a chain of nodes, each reading what the last one made."""

    def __init__(self, shape: Sequence[int | str], *, opset: int = OPSET, elem: int = TensorProto.FLOAT) -> None:
        self.input = helper.make_tensor_value_info("x", elem, list(shape))
        self.opset, self.last, self.count = opset, "x", 0
        self.nodes = list[onnx.NodeProto]()
        self.tensors = list[onnx.TensorProto]()
        self.domains = list[str]()

    def tensor(self, value: Any, name: str = "") -> str:
        """An initialiser."""
        name = name or f"w{len(self.tensors)}"
        array = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        array.name = name
        self.tensors.append(array)
        return name

    def node(self, op: str, *more: Any, first: str | None = None, domain: str = "", **attributes: Any) -> str:
        """A node that reads the last result (or `first`) and these operands: names, or arrays."""
        self.count += 1
        inputs = [m if isinstance(m, str) else self.tensor(m) for m in more]
        head = self.last if first is None else first
        out = f"t{self.count}"
        reads = [*([head] if head else []), *inputs]
        made = helper.make_node(op, reads, [out], name=f"{op.lower()}{self.count}", domain=domain, **attributes)
        self.nodes.append(made)
        self.last = out
        return out

    def proto(self, *outputs: str) -> onnx.ModelProto:
        elem = TensorProto.INT64 if self.nodes[-1].op_type == "ArgMax" else TensorProto.FLOAT
        ends = [helper.make_tensor_value_info(o, elem, None) for o in outputs or (self.last,)]
        graph = helper.make_graph(self.nodes, "g", [self.input], ends, self.tensors)
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in self.domains)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)

    def save(self, folder: Path, name: str = "net") -> Path:
        path = folder / f"{name}.onnx"
        path.write_bytes(self.proto().SerializeToString())
        return path


def floats(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Floats:
    """Normal numbers."""
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def session(model: onnx.ModelProto) -> Any:
    """onnxruntime, as the file says, without its own rewriting."""
    ort: Any = onnxruntime
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answers(model: onnx.ModelProto, x: Array) -> Array:
    """What onnxruntime says, in batches of the size that the file fixes."""
    engine = session(model)
    name = engine.get_inputs()[0].name
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or len(x)
    parts = [engine.run(None, {name: x[i : i + batch]})[0] for i in range(0, len(x), batch)]
    return np.concatenate(parts)


def imported(model: onnx.ModelProto, folder: Path, **given: Any) -> Net:
    """The net of a model, pixels 0..255 by default."""
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    options: dict[str, Any] = {"input_range": (0, 255)} | given
    return load_onnx(path, **options)


def agree(model: onnx.ModelProto, folder: Path, shape: Sequence[int], *, seed: int = 0, **options: Any) -> Net:
    """The net of a model, its scores compared with onnxruntime's on random pixels [N, *shape of the file]."""
    options = {"input_range": (0, 255), "input_scale": 1 / 255} | options
    net = imported(model, folder, **options)
    low, high = options["input_range"]
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 3
    x = np.random.default_rng(seed).integers(low, high + 1, (batch, *shape))
    want = answers(model, (x * options["input_scale"]).astype(np.float32)).reshape(batch, -1)
    got = run(net, x.reshape(batch, *net.input.type.shape)).scores.reshape(batch, -1)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(want).max())))
    return net


def save_beside(model: onnx.ModelProto, path: Path) -> None:
    """Save a model whose weights lie in `w.bin` beside it."""
    data = b""
    for tensor in model.graph.initializer:
        entries = {"location": "w.bin", "offset": str(len(data)), "length": str(len(tensor.raw_data))}
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    (path.parent / "w.bin").write_bytes(data)
