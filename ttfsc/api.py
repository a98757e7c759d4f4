"""The two functions most Python users need; everything else is a pass or a backend they can call themselves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ttfsc.compiler import Compiled, Options, compile_net
from ttfsc.inputs import Samples, on_grid
from ttfsc.ir import Array, Mapped, Net, Shape, TtfsError, check_input, codes
from ttfsc.models import Source, load_model

if TYPE_CHECKING:
    from torch import nn


def load(
    model: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    input_shape: Shape | None = None,
    input_range: tuple[int, int] | None = None,
    input_scale: float | None = None,
) -> Net:
    """The net of a model: `x.ttfs`, `x.onnx`, `x.pt2`, `file.py:factory`, a folder made by `ttfsc compile`, or a torch
    module, which holds its own weights.

    Raises TtfsError with everything that is wrong with it; TypeError where `model` is none of these.
    """
    if not isinstance(model, (str, Path)):
        return _of_module(model, weights, input_shape, input_range, input_scale)
    path = None if weights is None else Path(weights)
    return load_model(Source(str(model), path, input_shape, input_range, input_scale))


def _of_module(
    model: nn.Module,
    weights: str | Path | None,
    shape: Shape | None,
    span: tuple[int, int] | None,
    scale: float | None,
) -> Net:
    if "torch" not in sys.modules or not isinstance(model, sys.modules["torch"].nn.Module):
        raise TypeError(f"a model is a path, file.py:factory or a torch module, not a {type(model).__name__}")
    if weights is not None:
        fact = "a torch module holds its own weights; load them into it, or leave weights out"
        raise TtfsError.one(codes.OPTION, fact, subject="weights")
    from ttfsc.frontends.torch_load import load_module

    return load_module(model, input_shape=shape, input_range=span, input_scale=scale)


def compile(
    net: Net,
    *,
    targets: Sequence[str] = ("c", "noc", "report"),
    calibration: Array | None = None,
    x: Array | None = None,
    y: Array | None = None,
    check: bool = True,
    **options: str | int | float | Mapped | None,
) -> Compiled:
    """Compile a net of any stage, as `ttfsc compile` does. `load` makes a net of a model.

    calibration: inputs for activation ranges, where the source has none of its own.
    x [N, *input shape], y [N]: inputs on which engines are compared and spikes counted, and their labels.
    options: arch, bits, ticks, calib_method, pipeline, seed, cpu and those of mapping (partition, place, pool and so
        on); see `ttfsc.compiler.Options`.
    Raises TtfsError for whatever a user can mend.
    """
    if not isinstance(cast("object", net), Net):
        raise TypeError(f"compile takes a net, not a {type(net).__name__}: ttfsc.compile(ttfsc.load(model), ...)")
    samples = None
    if x is not None:
        x, rounded = on_grid(x, net.input)
        check_input(net, x)
        samples = Samples(x, y, "given inputs", rounded)
    ranges = None if calibration is None else Samples(on_grid(calibration, net.input)[0], None, "given calibration")
    chosen = Options(targets=tuple(targets), **options)  # pyright: ignore[reportArgumentType]
    return compile_net(net, chosen, calibration=ranges, samples=samples, check=check)
