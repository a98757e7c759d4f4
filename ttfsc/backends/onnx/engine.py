"""Run an exported net with onnxruntime: the same `Result` as the interpreter's."""

import importlib
import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper

from ttfsc.backends.onnx.emit import FILE, RANGE, SPIKES
from ttfsc.backends.onnx.graph import FLOAT
from ttfsc.ir import Array, Loc, Result, TtfsError, codes, show_shape

_BATCH = 16  # images at a time: weights are read once for all of them, and their values stay in the cache


class OnnxEngine:
    """model.onnx in an onnxruntime CPU session; inputs go through in batches, so any number of them may be given.

    spikes: whether `run` also hands back every layer's values. threads: 0 lets onnxruntime choose.
    Raises TtfsError (TOOL) where onnxruntime is missing, (DAMAGED) where the file is not one that `emit` made.
    """

    def __init__(self, files: Mapping[str, bytes], *, spikes: bool = True, threads: int = 0) -> None:
        try:
            ort: Any = importlib.import_module("onnxruntime")
        except ImportError as e:
            fact = "onnxruntime is not installed: pip install onnxruntime"
            raise TtfsError.one(codes.TOOL, fact, subject="engine onnx") from e
        loc = Loc(FILE)
        if FILE not in files:
            raise TtfsError.one(codes.FILE, "is not among the files", loc=loc)
        try:
            model = onnx.load_model_from_string(files[FILE])
            facts = {p.key: json.loads(p.value) for p in model.metadata_props if p.key in (SPIKES, RANGE)}
            layers, (low, high) = facts[SPIKES], facts[RANGE]
            self._low, self._high = int(low), int(high)
            self._layers = [(str(a), str(b), int(c)) for a, b, c in layers]
            entry = model.graph.input[0].type.tensor_type
            self._dtype = helper.tensor_dtype_to_np_dtype(entry.elem_type)
            self._shape = tuple(d.dim_value for d in entry.shape.dim[1:])
            self._input = model.graph.input[0].name
            options: Any = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            self._session: Any = ort.InferenceSession(
                _with_outputs(model, [tensor for _, tensor, _ in self._layers]) if spikes else files[FILE],
                options, providers=["CPUExecutionProvider"],
            )  # fmt: skip
        except TtfsError:
            raise
        except Exception as e:  # protobuf, json and onnxruntime each raise their own kinds
            fact = f"is not a model that ttfsc exported: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
            raise TtfsError.one(codes.DAMAGED, fact, loc=loc) from e
        self._spikes = spikes

    def run(self, x: Array) -> Result:
        """Evaluate x [N, *input shape], integers in the declared range: labels, scores and, if asked for, spikes.

        Raises TtfsError (INPUT) for anything else.
        """
        self._check(x)
        layers = self._layers if self._spikes else []
        parts = list[list[Array]]()
        for i in range(0, len(x), _BATCH):
            part = np.ascontiguousarray(x[i : i + _BATCH], self._dtype)
            names = ["label", "scores", *(tensor for _, tensor, _ in layers)]
            found = cast("list[Array]", self._session.run(names, {self._input: part}))
            small = [np.uint8 if ticks < 256 else np.int32 for _, _, ticks in layers]
            parts.append([*found[:2], *(v.astype(t) for v, t in zip(found[2:], small, strict=True))])
        whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Result(whole[0], whole[1], {layer[0]: v for layer, v in zip(layers, whole[2:], strict=True)})

    def _check(self, x: Array) -> None:
        """The rules of `ttfsc.ir.check_input`, from what the file says: a value beyond would wrap silently."""
        fact = ""
        if x.ndim != len(self._shape) + 1 or x.shape[1:] != self._shape:
            fact = f"x is {show_shape(x.shape)}, must be N x {show_shape(self._shape)}"
        elif len(x) == 0:
            fact = "x holds no samples"
        elif x.dtype.kind not in "iub":
            fact = f"x is {x.dtype}, must be integers"
        elif x.min() < self._low or x.max() > self._high:
            fact = f"x reaches from {x.min()} to {x.max()}, declared are {self._low}..{self._high}"
        if fact:
            raise TtfsError.one(codes.INPUT, fact, subject=f"input %{self._input}")


def _with_outputs(model: onnx.ModelProto, tensors: list[str]) -> bytes:
    """The same model with inner tensors handed out as well."""
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(helper.make_tensor_value_info(t, FLOAT, None) for t in tensors if t not in known)
    return model.SerializeToString(deterministic=True)
