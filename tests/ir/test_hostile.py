"""Nets that were tampered with, in Python or in files: `faults_of` never raises, and what it passes can be run."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import inputs_for, integer_nets, real_nets
from ttfsc.ir import (
    Analog,
    Array,
    AvgPool,
    BatchNorm,
    Const,
    Net,
    Op,
    Potential,
    Ref,
    Scores,
    Spikes,
    TtfsError,
    Type,
    bounds_of,
    codes,
    consts_of,
    faults_of,
    is_integer,
    layers_of,
    parse,
    run,
    show,
)
from ttfsc.ir.fields import fields_of

EXTREMES = (-(2**63), -(10**18), -5, -1, 0, 1, 2, 3, 7, 64, 65, 65535, 2**31, 10**12, 10**18)
SIZES = st.sampled_from((0, 1, 2, 3, 5, 28, 4096, 10**6, 99999999, 10**12))
TYPES: st.SearchStrategy[Type] = st.one_of(
    st.builds(Analog, st.lists(SIZES, max_size=4).map(tuple), st.sampled_from(EXTREMES), st.sampled_from(EXTREMES)),
    st.builds(Spikes, st.lists(SIZES, max_size=4).map(tuple), st.sampled_from(EXTREMES), st.sampled_from(EXTREMES)),
    st.builds(Scores, st.lists(SIZES, max_size=4).map(tuple), st.sampled_from(EXTREMES), st.sampled_from(EXTREMES)),
    st.builds(
        Potential,
        st.lists(SIZES, max_size=4).map(tuple),
        st.sampled_from(EXTREMES),
        st.sampled_from((None, *EXTREMES)),
    ),
)
DTYPES = ("i1", "u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", "g", "c8", "?", "U3", "O", "M8[s]", "V4", ">i4")
VALUES = (0, 1, -1, 127, -128, 2**31 - 1, -(2**63), 2**63 - 1, np.nan, np.inf, -0.0, 1e300, 1e-300)


@st.composite
def arrays(draw: Any) -> Array:
    shape = tuple(draw(st.lists(st.sampled_from((0, 1, 2, 3, 5)), max_size=5)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    value: Any = draw(st.sampled_from(VALUES))
    if dtype.kind in "iu" and (not np.isfinite(value) or not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max):
        value = 1
    if dtype.kind in "MV":
        return np.zeros(shape, dtype)
    with np.errstate(all="ignore"):
        return np.full(shape, value).astype(dtype) if dtype.kind != "O" else np.full(shape, value, object)


def tampered(draw: Any, op: Op) -> Op:
    """The op with one field set to something it should not be."""
    known = {f.name: f for f in fields_of(type(op))}
    name = draw(st.sampled_from(["type", "type", "name", *known]))
    if name == "type":
        return replace(op, type=draw(TYPES))
    if name == "name":
        return replace(op, name=draw(st.sampled_from(("in", "l0", "", "a b", "ü"))))
    f, some = known[name], st.sampled_from(EXTREMES)
    kinds: dict[str, Any] = {
        "ref": st.sampled_from((Ref("in"), Ref("out"), Ref("l0"), Ref("l0.v"), Ref("nowhere"))),
        "refs": st.lists(st.sampled_from((Ref("in"), Ref("out"), Ref("l0.v"), Ref("out.v"))), max_size=3).map(tuple),
        "const": st.sampled_from((Const("l0.v.w"), Const("out.v.w"), Const("l0.theta"), Const("nowhere"), None)),
        "int": some, "float": st.sampled_from((0.0, -1.0, np.inf, np.nan, 1e-320)), "bool": st.booleans(),
        "word": st.sampled_from(f.words or ("",)), "sizes": st.tuples(*[some] * f.count),
    }  # fmt: skip
    value = draw(kinds[f.kind])
    if f.kind == "const" and value is None and f.required:
        return op
    changes: dict[str, Any] = {name: value}
    return replace(op, **changes)


def spoilt(draw: Any, array: Array) -> Array:
    """The array with extreme numbers in it: its form is right, its content may be anything that fits the type."""
    info = np.iinfo(array.dtype) if array.dtype.kind == "i" else np.finfo(array.dtype)
    changed = array.copy().reshape(-1)
    changed[:: draw(st.integers(1, 4))] = draw(st.sampled_from((info.min, info.max, -1, 0, 1)))
    wide = draw(st.booleans()) and array.dtype.kind == "i"
    whole = changed.reshape(array.shape)
    return whole.astype(np.int64) * 2**32 if wide else whole


@st.composite
def hostile(draw: Any) -> Net:
    net: Net = draw(st.one_of(integer_nets(max_layers=2), real_nets(max_layers=2)))
    ops: list[Op] = list(net.ops)
    pool = dict(net.arrays)
    used = [const for op in net.ops for const in consts_of(op)]
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        kind, const = draw(st.integers(0, 2)), draw(st.sampled_from(used))
        if kind == 0:
            i = int(draw(st.integers(0, len(ops) - 1)))
            ops[i] = tampered(draw, ops[i])
        elif kind == 1 and pool[const].dtype.kind in "if" and pool[const].size:
            pool[const] = spoilt(draw, pool[const])
        else:
            pool[const] = draw(arrays())
    if draw(st.integers(0, 9)) == 9:
        draw(st.randoms()).shuffle(ops)
    return replace(net, ops=tuple(ops), arrays=type(net.arrays)(pool))


@pytest.mark.filterwarnings("error")
@settings(max_examples=200)
@given(hostile())
def test_tampered_nets_have_messages_or_run(net: Net) -> None:
    faults = faults_of(net)
    assert all(f.code in codes.CODES and f.fact and "\n" not in str(f) for f in faults)
    if faults:
        return
    assert parse(show(net), net.arrays) == net
    if is_integer(net):
        assert all(b.v[0].min() <= b.v[1].max() for b in bounds_of(net).values())
    if not any(isinstance(op, AvgPool | BatchNorm) for op in net.ops):
        assert layers_of(net) or net.answer.type.size
    if max(op.type.size for op in net.ops) > 10**5 or sum(ticks(op) for op in net.ops) > 10**4:
        return
    try:
        result = run(net, inputs_for(net, 0, 2))
    except TtfsError as e:
        assert [f.code for f in e.faults] == [codes.WIDTH if is_integer(net) else codes.NONFINITE]
    else:
        assert len(result.labels) == 2


def ticks(op: Op) -> int:
    t = op.type
    return t.ticks if isinstance(t, Spikes | Scores) else (t.closes or 0) - t.opens if isinstance(t, Potential) else 0
