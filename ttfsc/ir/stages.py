"""Which ops a net may hold at each stage of its way down (imported -> canonical -> quantized -> mapped)."""

from typing import Literal

import numpy as np

from ttfsc.ir import codes
from ttfsc.ir.faults import Fault, Loc, TtfsError
from ttfsc.ir.net import Net
from ttfsc.ir.ops import (
    OPS,
    Add,
    AvgPool,
    BatchNorm,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Identity,
    Input,
    MaxPool,
    Op,
)  # fmt: skip
from ttfsc.ir.verify import verify

Stage = Literal["imported", "canonical", "quantized", "mapped"]

_CANONICAL: frozenset[type[Op]] = frozenset((Input, Encode, Conv2d, Dense, Add, MaxPool, Flatten, Fire, Decode))
STAGES: dict[Stage, frozenset[type[Op]]] = {
    "imported": frozenset(OPS.values()),
    "canonical": _CANONICAL,
    "quantized": _CANONICAL,
    "mapped": _CANONICAL,
}
_WAY_OUT: dict[type[Op], str] = {
    Identity: "run drop-identity",
    BatchNorm: "run fold-batchnorm",
    AvgPool: "run fold-avgpool",
}


def stage_faults(net: Net, stage: Stage) -> list[Fault]:
    """What keeps a verified net from being at this stage."""
    faults = list[Fault]()
    for op in net.ops:
        if type(op) not in STAGES[stage]:
            hint = _WAY_OUT.get(type(op), "it belongs to an earlier stage")
            faults.append(Fault(codes.STAGE, op.loc, op.subject, f"not allowed in a {stage} net: {hint}"))
        elif stage in ("quantized", "mapped"):
            faults += [Fault(codes.STAGE, op.loc, op.subject, fact) for fact in _integer_facts(net, op)]
    if stage == "mapped" and net.mapped is None:
        faults.append(
            Fault(codes.STAGE, Loc(net.name), f"net @{net.name}", "has no map section: run partition, place, route")
        )
    return faults


def check_stage(net: Net, stage: Stage) -> Net:
    """The net, verified and at this stage; raises TtfsError with every reason why not."""
    faults = stage_faults(verify(net), stage)
    if faults:
        raise TtfsError(faults)
    return net


def _integer_facts(net: Net, op: Op) -> list[str]:
    match op:
        case Conv2d() | Dense() if not np.issubdtype(net.arrays[op.w].dtype, np.integer):
            return [f"@{op.w} is {net.arrays[op.w].dtype}, must be integers: run quantize"]
        case Fire() if op.theta is None or not np.issubdtype(net.arrays[op.theta].dtype, np.integer):
            return ["has no integer threshold table: run quantize"]
        case Fire() | Decode() if not op.width and not (isinstance(op, Decode) and op.rule != "membrane"):
            return ["its accumulator width is not proven: run prove-widths"]
        case _:
            return []
