"""`diff` says nothing of equal nets and something of all others."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings

from tests.ir.test_text import mapped, small
from tests.strategies import integer_nets
from ttfsc.ir import Const, Decode, Fire, Net, diff


@settings(max_examples=30)
@given(integer_nets(max_layers=1), integer_nets(max_layers=1))
def test_silent_exactly_when_equal(a: Net, b: Net) -> None:
    assert not diff(a, a)
    assert bool(diff(a, b)) == (a != b)


def test_what_differs_is_named() -> None:
    net = small()
    w = net.arrays[Const("w")].copy()
    w[1, 2] = 5
    other = replace(net, arrays=net.arrays.with_({Const("w"): w}))
    assert diff(net, other) == ["%v @w: 1 of 8 values differ, the first at [1, 2]: 1 and 5"]
    wide = replace(net, arrays=net.arrays.with_({Const("w"): w.astype(np.int16)}))
    assert diff(net, wide) == ["%v @w: int8 [2, 4] and int16 [2, 4]"]
    fire = net.by_name["s"]
    assert isinstance(fire, Fire)
    forced = replace(net, ops=tuple(replace(fire, force_last=True) if op is fire else op for op in net.ops))
    was, now = (f"%s = fire %v theta=@theta{more} : spikes<2, 0..3>" for more in ("", " force_last=true"))
    assert diff(net, forced) == [f"op 2: {was}  and  {now}"]
    assert diff(net, replace(net, name="m"))[0] == "name: @n and @m"
    assert diff(net, replace(net, ops=net.ops[:-1]))[0].endswith("and  nothing")
    assert diff(net, replace(net, arrays=net.arrays.with_({Const("z"): w}))) == ["@z: only in the second"]
    spare, same = (net.arrays.with_({Const("z"): a}) for a in (w, w * 2))
    assert diff(replace(net, arrays=spare), replace(net, arrays=same))[0].startswith("@z (read by no op): ")


def test_signed_zeros_and_nans_differ_in_their_bits() -> None:
    net = small()
    a, b = (replace(net, arrays=net.arrays.with_({Const("z"): np.array([z])})) for z in (0.0, -0.0))
    assert diff(a, b) == ["@z (read by no op): same values, different bits (zero signs or NaNs)"]


def test_maps_and_the_limit() -> None:
    net = mapped(small())
    assert net.mapped is not None
    assert diff(small(), net) == ["map: only in the second"]
    fewer = net.with_map(replace(net.mapped, cores=net.mapped.cores[1:], chip="other"))
    found = diff(net, fewer, limit=100)
    assert found[0] == "map chip: info and other" and found[1].startswith("map cores: Core(id=0")
    assert len(diff(net, fewer, limit=2)) == 2
    last = net.answer
    assert isinstance(last, Decode) and not diff(net, replace(net, ops=(*net.ops[:-1], replace(last))))
