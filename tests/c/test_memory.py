"""What a model takes: buffers share memory by lifetime, pooled rows are not kept, and small networks stay small."""

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_build import STRICT, UNDEFINED, assert_same, need, written
from c_nets import NETS, RNG, Hand, ints

from tests.strategies import inputs_for
from ttfsc.backends.c import Engine, cost, emit
from ttfsc.backends.c.cgen import SIZES
from ttfsc.backends.c.lower import lower
from ttfsc.backends.c.plan import Layer, Move, Plan
from ttfsc.ir import OPEN, Add, Analog, Flatten, MaxPool, Net, Ref, Spikes, run

KIB = 1024


def mnist(kernel: str) -> Net:
    """16C5-P2-32C5-P2-800-128-10, as in examples/mnist: 4 bits, 10 ticks."""
    h = Hand("mnist", Analog((1, 28, 28), 0, 255), ticks=10)
    pool: dict[str, Any] = {"pool": (2, 2), "pool_stride": (2, 2)}
    h.conv("a.v", "in", (16, 1, 5, 5), pad=(1, 1, 1, 1)).fire("a", "a.v", RNG(1).integers(0, 9000, (16, 10)))
    h.conv("b.v", "a", (32, 16, 5, 5), pad=(1, 1, 1, 1), kernel=kernel, **pool)
    h.fire("b", "b.v", RNG(2).integers(0, 900, (32, 10)))
    h.conv("c.m", "b", (128, 32, 5, 5), kernel=kernel, **pool).op(Flatten(name="c.v", type=OPEN, x=Ref("c.m")))
    h.fire("c", "c.v", RNG(3).integers(0, 900, (128, 10)))
    return h.dense("o", "c", (10, 128), kernel=kernel).membrane("o")


def live(plan: Plan) -> int:
    """The most bytes that any step needs at the same time."""
    last = max(b.last for b in plan.buffers)
    return max(
        sum(SIZES[b.ctype] * b.length for b in plan.buffers if b.first <= at <= b.last) for at in range(last + 1)
    )


@pytest.mark.parametrize("kernel", ["hold", "ramp"])
def test_mnist_fits_a_small_processor(kernel: str, tmp_path: Path) -> None:
    """RAM 16 KiB, ROM 80 KiB: constants and the machine code of this machine."""
    net = mnist(kernel)
    assert cost(net, cpu="cortex-m").ram <= 9 * KIB
    written(emit(net, cpu="cortex-m"), tmp_path)
    subprocess.run([need("gcc"), "-std=c99", "-Os", "-c", "mnist.c"], cwd=tmp_path, check=True)
    said = subprocess.run([need("size"), "mnist.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, said.splitlines()[1].split()[:3])
    assert (data, bss) == (0, 0)
    assert text <= 80 * KIB
    x = inputs_for(net, 1, 5)
    assert_same(Engine(emit(net, cpu="cortex-m"), flags=("-O1",), cache=tmp_path).run(x), run(net, x), net)


@pytest.mark.parametrize("cpu", ["cortex-m", "generic"])
def test_memory_is_shared_by_lifetime(cpu: str) -> None:
    """Close to what is needed at the same time; each type has an array of its own, so tiny nets miss it by more."""
    plan = lower(mnist("ramp"), cpu=cpu)
    assert plan.state_bytes <= live(plan) * 9 // 8
    for net in NETS.values():
        plan = lower(net(), cpu=cpu)
        assert plan.state_bytes <= live(plan) * 3 // 2 + 128


def pooled(kind: str, **fields: Any) -> Net:
    """A convolution whose spikes are pooled: by a max pool, or by the op behind it."""
    h = Hand("pooled", Spikes((3, 9, 8), 0, 5))
    h.conv("a.v", "in", (4, 3, 3, 3), pad=(1, 1, 1, 1), kernel="ramp").fire("a", "a.v", 25)
    if kind == "max":
        h.op(MaxPool(name="p", type=OPEN, x=Ref("a"), **fields))
        h.conv("b.v", "p", (5, 4, 2, 2), kernel="ramp")
    else:
        same = {"pool": fields["kernel"], "pool_stride": fields["stride"], "pool_pad": fields.get("pad", (0,) * 4)}
        h.conv("b.v", "a", (5, 4, 2, 2), **same)
    h.fire("b", "b.v", 40).op(Flatten(name="f", type=OPEN, x=Ref("b")))
    n = h.b.types["f"].shape[0]
    return h.dense("o", "f", (3, n), w=ints(9, (3, n), 4)).membrane("o")


@pytest.mark.parametrize("kind", ["max", "sum"])
@pytest.mark.parametrize(
    "fields",
    [
        {"kernel": (2, 2), "stride": (2, 2)},
        {"kernel": (3, 3), "stride": (2, 1), "pad": (1, 1, 1, 1)},
        {"kernel": (2, 3), "stride": (3, 2)},
        {"kernel": (3, 1), "stride": (1, 3), "pad": (0, 0, 2, 0)},
    ],
)
def test_rows_are_pooled_as_they_are_made(kind: str, fields: dict[str, Any], tmp_path: Path) -> None:
    """Only the rows of a window are kept, and every spike is as ever, in the trace too."""
    net = pooled(kind, **fields)
    plan = lower(net, cpu="cortex-m")
    layer = next(step for step in plan.steps if isinstance(step, Layer))
    assert layer.rows == fields["kernel"][0]
    assert not any(isinstance(step, Move) and step.pool for step in plan.steps)
    x = inputs_for(net, 1, 12)
    engine = Engine(emit(net, cpu="cortex-m"), flags=("-O1", *STRICT, *UNDEFINED), cache=tmp_path)
    assert_same(engine.run(x), run(net, x), net)


def test_spikes_that_others_read_are_kept(tmp_path: Path) -> None:
    h = Hand("shared", Spikes((3, 8, 8), 0, 5))
    h.conv("a.v", "in", (4, 3, 3, 3), pad=(1, 1, 1, 1)).fire("a", "a.v", 25)
    h.op(MaxPool(name="p", type=OPEN, x=Ref("a"), kernel=(2, 2), stride=(2, 2)))
    h.op(Flatten(name="fa", type=OPEN, x=Ref("a"))).op(Flatten(name="fp", type=OPEN, x=Ref("p")))
    h.dense("s.v", "fp", (6, 64)).fire("s", "s.v", 30)
    h.dense("t.v", "fa", (6, 256)).fire("t", "t.v", 30)
    h.dense("o1", "s", (3, 6)).dense("o2", "t", (3, 6))
    net = h.op(Add(name="o", type=OPEN, xs=(Ref("o1"), Ref("o2")))).membrane("o")
    assert sum(isinstance(step, Move) and step.pool is not None for step in lower(net, cpu="cortex-m").steps) == 1
    x = inputs_for(net, 1, 6)
    assert_same(Engine(emit(net, cpu="cortex-m"), flags=("-O1",), cache=tmp_path).run(x), run(net, x), net)


def test_the_header_says_it_all() -> None:
    header = emit(mnist("ramp"), cpu="cortex-m")["mnist.h"].decode()
    found = re.search(r"ROM (\d+) bytes .* RAM (\d+) bytes .*\n \* stack at most (\d+) bytes", header)
    assert found is not None
    assert int(found[1]) < 64 * KIB
    assert int(found[2]) + int(found[3]) < 10 * KIB
    assert np.all([int(n) > 0 for n in found.groups()])
