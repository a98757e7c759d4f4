"""PyTorch models: `file.py:factory` with weights from .safetensors, and .pt2 archives of torch.export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ttfsc.frontends.tensors import PICKLES
from ttfsc.frontends.value import Declared
from ttfsc.ir import Fault, Loc, Net, Shape, TtfsError, codes

if TYPE_CHECKING:
    from torch import nn


def load_torch(
    spec: str,
    *,
    weights: Path | None = None,
    input_shape: Shape | None = None,
    input_range: tuple[int, int] | None = None,
    input_scale: float | None = None,
    seed: int = 0,
) -> Net:
    """Import a PyTorch network as a real-valued Net.

    `spec` is `file.py:factory`, optionally with literal keyword arguments, or `x.pt2`. The Python file is the user's
    own code: it is imported and run. `weights` is a .safetensors file with the state_dict of the factory's module;
    without one the factory's own values are compiled, its random numbers drawn from `seed`.
    Models that do not begin with ttfsc.nn.Input need the three `input_*`: the shape of a sample, the integers low..high
    that the compiled net takes, and the real value of integer 1 (the model saw integer * scale).

    Raises TtfsError with everything that is wrong: files, weights, and every node that cannot be lowered.
    """
    declared = Declared(input_shape, input_range, input_scale)
    path = Path(spec)
    if path.suffix == ".pt2":
        if weights is not None:
            fact = "a .pt2 archive holds its own weights; leave --weights out"
            raise TtfsError.one(codes.OPTION, fact, loc=Loc(spec), subject="--weights")
        from ttfsc.frontends.torch_archive import load_archive

        return load_archive(path, declared)
    if path.suffix in PICKLES:
        fact = (
            "is a pickle, which can run any code when it is read, so it is never loaded; name the network as "
            "file.py:factory with --weights x.safetensors, or export it with torch.export.save as .pt2"
        )
        raise TtfsError.one(codes.FILE, fact, loc=Loc(spec))
    try:
        from ttfsc.frontends import torch_source, torch_trace
    except ModuleNotFoundError as e:
        if e.name != "torch":
            raise
        fact = "needs torch, which is not installed: pip install 'ttfsc[torch]'"
        raise TtfsError.one(codes.TOOL, fact, loc=Loc(spec)) from e
    parsed = torch_source.parse_spec(spec)
    model = torch_source.build(parsed, seed)
    faults = list[Fault]()
    try:
        if weights is not None:
            torch_source.load_weights(model, weights)
    except TtfsError as e:
        faults += e.faults
    try:
        net = torch_trace.trace_module(model, _name(parsed.name), declared)
    except TtfsError as e:
        raise TtfsError([*faults, *e.faults]) from e
    if faults:
        raise TtfsError(faults)
    return net


def load_module(
    module: nn.Module,
    *,
    input_shape: Shape | None = None,
    input_range: tuple[int, int] | None = None,
    input_scale: float | None = None,
) -> Net:
    """Import a PyTorch network that is in memory, as `load_torch` does one from a file; the net is named by its class.

    The module is read as it evaluates, whatever mode it is in, and left as it was.
    """
    from ttfsc.frontends import torch_trace

    modes = [(m, m.training) for m in module.modules()]
    try:
        return torch_trace.trace_module(
            module.eval(), _name(type(module).__name__.lower()), Declared(input_shape, input_range, input_scale)
        )
    finally:
        for m, training in modes:
            m.training = training


def _name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def check_torch(
    spec: str,
    *,
    weights: Path | None = None,
    input_shape: Shape | None = None,
    input_range: tuple[int, int] | None = None,
    input_scale: float | None = None,
) -> list[Fault]:
    """Every reason why a model cannot be imported; empty where it can. Takes what `load_torch` takes."""
    try:
        load_torch(spec, weights=weights, input_shape=input_shape, input_range=input_range, input_scale=input_scale)
    except TtfsError as e:
        return list(e.faults)
    return []
