"""A small chip, a small net, and synapses counted one by one: the judges of the report's tests."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ttfsc.hardware import Chip, Figure
from ttfsc.ir import (
    OPEN,
    Analog,
    Array,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    Link,
    Loc,
    MaxPool,
    Net,
    Potential,
    Ref,
)
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route

Index = tuple[int, int, int]


def small_chip(neurons: int = 16, **figures: Figure | None) -> Chip:
    """A chip of tiny cores with the paper's energies, so that small nets need many cores."""
    energies: dict[str, Figure | None] = {
        "e_sop": Figure(20, "pJ", "a test"),
        "e_hop": Figure(100, "pJ", "a test"),
        "e_static": Figure(3.52, "uJ/frame", "a test"),
    }
    limit = Figure(neurons, "neurons", "a test")
    given: dict[str, Any] = {**energies, **figures}
    return Chip(name="tiny", title="a chip of tests", delivery="multicast", neurons_per_core=limit, **given)


def small_net(name: str = "small", layer: str = "c1", origin: str = "features.0") -> Net:
    """Direct-coded conv, max pool, conv, dense read-out; every figure of a report occurs in it."""
    b, rng = Builder(name, ticks=4), np.random.default_rng(5)

    def weights(*shape: int) -> Array:
        return rng.integers(-3, 4, shape).astype(np.int8)

    def falling(theta: int) -> Array:
        return (theta * (4 - np.arange(4)))[None].astype(np.int32)

    loc = Loc("model.py", 7, origin)
    b.add(Input(name="in", type=Analog((1, 6, 6), 0, 15), scale=1 / 15))
    w1 = b.array("w1", weights(3, 1, 3, 3))
    b.add(Conv2d(name="v1", type=OPEN, x=Ref("in"), w=w1, bits=3, pad=(1, 1, 1, 1), loc=loc))
    b.add(Fire(name=layer, type=OPEN, v=Ref("v1"), theta=b.array("t1", falling(12)), width=16))
    b.add(MaxPool(name="p1", type=OPEN, x=Ref(layer), kernel=(2, 2), stride=(2, 2)))
    w2 = b.array("w2", weights(4, 3, 3, 3))
    b.add(Conv2d(name="v2", type=OPEN, x=Ref("p1"), w=w2, bits=3, pad=(1, 1, 1, 1), kernel="ramp"))
    b.add(Fire(name="c2", type=OPEN, v=Ref("v2"), theta=b.array("t2", falling(9)), width=16))
    b.add(Flatten(name="flat", type=OPEN, x=Ref("c2")))
    w3 = b.array("w3", weights(3, 36))
    b.add(Dense(name="v3", type=OPEN, x=Ref("flat"), w=w3, bits=3, kernel="hold"))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("v3"),), rule="membrane", width=16))
    return b.net()


def mapped(net: Net, chip: Chip, *, scheme: str = "tile", delivery: str = "") -> Net:
    """The net on the chip's cores."""
    return route(place(partition(net, scheme=scheme, chip=chip), scheme="row-major"), delivery=delivery)


def widths(net: Net) -> Net:
    """The net as prove-widths leaves it, for nets whose sums fit anyway."""
    return net.with_ops(replace(op, width=32) if isinstance(op, Fire | Decode) else op for op in net.ops)


def additions(link: Link, w: Array) -> Iterator[tuple[Index, Index, int]]:
    """Every single synaptic addition: operand place, output place, weight. Straight from the definitions."""
    op = link.synapse
    if isinstance(op, Dense):
        places = list(np.ndindex(*link.fan_grid))
        for out in range(w.shape[0]):
            for i, here in enumerate(places):
                yield _index(here), (out, 0, 0), int(w[out, i])
        return
    channels, height, width = link.fan_grid
    per_group, outs = channels // op.groups, w.shape[0] // op.groups
    inner = [
        (n + op.pool_pad[a] + op.pool_pad[a + 2] - op.pool[a]) // op.pool_stride[a] + 1
        for a, n in enumerate((height, width))
    ]
    for out, y, x in np.ndindex(*link.out_grid):
        for c, i, j in np.ndindex(*w.shape[1:]):
            py = y * op.stride[0] - op.pad[0] + i * op.dilation[0]
            px = x * op.stride[1] - op.pad[1] + j * op.dilation[1]
            if not (0 <= py < inner[0] and 0 <= px < inner[1]):
                continue
            for di, dj in np.ndindex(*op.pool):
                h, v = py * op.pool_stride[0] - op.pool_pad[0] + di, px * op.pool_stride[1] - op.pool_pad[1] + dj
                if 0 <= h < height and 0 <= v < width:
                    yield (out // outs * per_group + c, h, v), (out, y, x), int(w[out, c, i, j])


def pooled(link: Link, values: Array) -> Array:
    """[C, H, W] at the synapse's operand for one frame [C, H, W] at the source: the largest value of each window."""
    for pool in link.pools:
        out = np.zeros(pool.type.shape, values.dtype)
        for c, y, x in np.ndindex(*pool.type.shape):
            out[c, y, x] = max(int(values[place]) for place in window(pool, (c, y, x), values.shape))
        values = out
    return values.reshape(link.fan_grid)


def window(pool: MaxPool, at: Index, shape: tuple[int, ...]) -> list[Index]:
    """The places that one output of a max pool looks at."""
    c, y, x = at
    found = list[Index]()
    for i, j in np.ndindex(*pool.kernel):
        h, v = y * pool.stride[0] - pool.pad[0] + i, x * pool.stride[1] - pool.pad[1] + j
        if 0 <= h < shape[1] and 0 <= v < shape[2]:
            found.append((c, h, v))
    return found


def listeners(link: Link, w: Array) -> dict[Index, set[Index]]:
    """Which outputs each source neuron can reach, through the max pools."""
    senders = {place: {place} for place in map(_index, np.ndindex(*link.source_grid))}
    shape = link.source_grid
    for pool in link.pools:
        behind = {_index(at): window(pool, _index(at), shape) for at in np.ndindex(*pool.type.shape)}
        senders = {at: set[Index]().union(*(senders[place] for place in places)) for at, places in behind.items()}
        shape = _index(pool.type.shape)
    if shape != link.fan_grid:  # flattened on the way
        senders = dict(zip(map(_index, np.ndindex(*link.fan_grid)), senders.values(), strict=True))
    found = defaultdict[Index, set[Index]](set)
    for operand, out, _ in additions(link, w):
        for sender in senders[operand]:
            found[sender].add(out)
    return found


def repeats(link: Link) -> int:
    """How often an analog input's current arrives."""
    t = link.synapse.type
    assert isinstance(t, Potential)
    return t.closes - t.opens if link.synapse.every and t.closes is not None else 1


def _index(place: tuple[int, ...]) -> Index:
    c, y, x = place
    return c, y, x
