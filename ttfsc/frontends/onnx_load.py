"""ONNX models: from an .onnx file to a real-valued Net."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ttfsc.frontends.value import Declared, Refused
from ttfsc.ir import Fault, Loc, Net, Shape, TtfsError, codes, show_shape

__all__ = ["check_onnx", "load_onnx"]

_MAX_BATCH = 1 << 16
_MAX_INPUT = 1 << 26  # numbers in one sample


def load_onnx(
    path: Path,
    *,
    input_shape: Shape | None = None,
    input_range: tuple[int, int] | None = None,
    input_scale: float | None = None,
    seen: tuple[int, int, float] | None = None,
) -> Net:
    """Import an ONNX model of opset 6 or newer as a real-valued Net.

    Args:
        path: the .onnx file; external data is read from below its folder only.
        input_shape: of one sample, in the model's own order of axes; needed where the file leaves sizes open.
        input_range: integers low..high that the compiled net takes. A model says it itself where its input is of an
            integer type or is quantised by its first node; every other model needs it.
        input_scale: real value of integer 1, 1.0 where it is not given: the model saw integer * scale.
        seen: low, high and scale of sample inputs: taken where neither the options nor the model say it.

    Raises:
        TtfsError: with everything that is wrong: the file, and every node that cannot be lowered, each with its name,
            op type, the reason and a way out.
    """
    loc = Loc(str(path))
    try:
        from ttfsc.frontends import onnx_file, onnx_walk
    except ModuleNotFoundError as e:
        if e.name != "onnx":
            raise
        raise TtfsError.one(codes.TOOL, "needs onnx, which is not installed: pip install onnx", loc=loc) from e
    graph = onnx_file.read_graph(path)
    try:
        dims, batch = _sizes(graph.input.dims, input_shape)
    except Refused as e:
        raise TtfsError.one(e.code, str(e), loc=loc, subject=f"input {graph.input.name}") from e
    declared = Declared(dims, input_range, input_scale, seen)
    return onnx_walk.Walk(graph, declared, batch, loc).net()


def check_onnx(
    path: Path,
    *,
    input_shape: Shape | None = None,
    input_range: tuple[int, int] | None = None,
    input_scale: float | None = None,
) -> list[Fault]:
    """Every reason why a model cannot be imported; empty where it can. Takes what `load_onnx` takes."""
    try:
        load_onnx(path, input_shape=input_shape, input_range=input_range, input_scale=input_scale)
    except TtfsError as e:
        return list(e.faults)
    return []


def _sizes(dims: tuple[int | None, ...], given: Shape | None) -> tuple[Shape, int]:
    """The shape of a sample, and the batch that the file computes with: its own, or 1 where that is open or absurd."""
    if not dims:
        raise Refused("has no axes; must be [N, channels, height, width] or [N, features]", codes.INPUT)
    first = dims[0]
    batch = first if first is not None and first <= _MAX_BATCH else 1
    own = dims[1:] if len(dims) > 1 else dims
    if given is not None and (
        len(given) != len(own) or any(n not in (None, g) for n, g in zip(own, given, strict=True))
    ):
        shown = "x".join("?" if n is None else str(n) for n in own)
        raise Refused(f"is {shown} in the file, but --input-shape says {show_shape(given)}", codes.INPUT)
    shape = given if given is not None else tuple(n for n in own if n is not None)
    if len(shape) < len(own):
        shown = "x".join("?" if n is None else str(n) for n in own)
        raise Refused(f"is {shown} in the file: give its sizes, --input-shape 3x32x32", codes.INPUT)
    if not shape or min(shape) < 1 or prod(shape) > _MAX_INPUT:
        raise Refused(f"has {show_shape(shape)} numbers per sample; must be 1 to {_MAX_INPUT}", codes.INPUT)
    return shape, batch if len(dims) > 1 else 1
