"""What the tests of quantize share."""

from typing import Any

import numpy as np
import pytest

from tests.passes.nets import Maker
from ttfsc.ir import (
    Array,
    Conv2d,
    Dense,
    Fire,
    Net,
    TtfsError,
    is_integer,
    verify,
)
from ttfsc.passes import quantize


def checked(net: Net, **options: Any) -> Net:
    """The quantised net, verified, with every array of its declared type."""
    after = verify(quantize(net, **options))
    assert is_integer(after)
    for op in after.ops:
        if isinstance(op, Conv2d | Dense):
            assert after.arrays[op.w].dtype == np.int8
            assert op.step is None
            if op.bias is not None:
                assert after.arrays[op.bias].dtype == np.int32
        if isinstance(op, Fire):
            assert op.theta is not None
            assert after.arrays[op.theta].dtype == np.int32
            assert op.ticks == 0
    return after


def faults(net: Net, **options: Any) -> list[str]:
    with pytest.raises(TtfsError) as e:
        quantize(net, **options)
    return [str(f) for f in e.value.faults]


def table(net: Net, name: str) -> Array:
    op = net.by_name[name]
    assert isinstance(op, Fire)
    assert op.theta is not None
    return net.arrays[op.theta]


def weights(net: Net, name: str) -> Array:
    op = net.by_name[name]
    assert isinstance(op, Conv2d | Dense)
    return net.arrays[op.w]


def residual(seed: int, scale: float = 1.0, **trained: Any) -> tuple[Maker, Net]:
    m = Maker((3, 5, 5), seed=seed)
    a = m.fire("a", m.conv("c1", "in", 3, 3, pad=(1,) * 4), 0.8)
    v = m.conv("c2", a, 3, 3, pad=(1,) * 4, bias=m.rng.normal(size=3) * 0.2, **trained)
    b = m.fire(
        "b", m.plus("s", [v, m.skip("k", a), m.conv("c3", "in", 3, 1, w=scale * m.rng.normal(size=(3, 3, 1, 1)))]), 1.5
    )
    return m, m.answer(m.conv("d", b, 2, 5))
