"""Nets and chips for the mapping tests."""

from dataclasses import replace
from typing import Any

import numpy as np

from ttfsc.hardware import Chip, Figure
from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Builder,
    Const,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Ref,
)
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route


def chip_of(neurons: int, *, mesh: tuple[int, int] | None = None, bits: int | None = None) -> Chip:
    """A chip with cores of this size, and a mesh and a synapse memory where given."""

    def figure(value: int, unit: str) -> Figure:
        return Figure(value, unit, "test")

    return Chip(
        name="small",
        title="a chip for tests",
        delivery="multicast",
        neurons_per_core=figure(neurons, "neurons"),
        mesh_width=figure(mesh[0], "cores") if mesh else None,
        mesh_height=figure(mesh[1], "cores") if mesh else None,
        synapse_bits_per_core=figure(bits, "bit") if bits else None,
    )


def proven(net: Net) -> Net:
    """With a declared accumulator width, as prove-widths leaves it."""
    return net.with_ops(replace(op, width=32) if isinstance(op, Fire | Decode) else op for op in net.ops)


def mapped(net: Net, chip: Chip, scheme: str = "tile", delivery: str = "") -> Net:
    return route(place(partition(net, scheme=scheme, chip=chip), scheme="row-major"), delivery=delivery)


def mnist(seed: int = 0, *, maxpool: bool = False) -> Net:
    """16C5-P2-32C5-P2-800-128-10 with random 4-bit weights, average pools folded, or max pools."""
    rng, b = np.random.default_rng(seed), Builder("mnist", ticks=10)
    fold: dict[str, Any] = {} if maxpool else {"pool": (2, 2), "pool_stride": (2, 2)}

    def weights(name: str, *shape: int) -> Const:
        return b.array(name, rng.integers(-7, 8, shape).astype(np.int8))

    def fire(name: str, top: int) -> Ref:
        falling = -(-top * (10 - np.arange(10)) // 10)
        theta = b.array(f"{name}.theta", falling[None].astype(np.int32))
        here = b.add(Fire(name=name, type=OPEN, v=Ref(f"{name}.v"), theta=theta, width=32)).name
        if maxpool and name != "f3":
            here = b.add(MaxPool(name=f"{name}.p", type=OPEN, x=Ref(here), kernel=(2, 2), stride=(2, 2))).name
        return Ref(here)

    b.add(Input(name="in", type=Analog((1, 28, 28), 0, 255), scale=1 / 255))
    b.add(Conv2d(name="c1.v", type=OPEN, x=Ref("in"), w=weights("w1", 16, 1, 5, 5), pad=(1, 1, 1, 1), bits=4))
    c1 = fire("c1", 9000)
    w2 = weights("w2", 32, 16, 5, 5)
    b.add(Conv2d(name="c2.v", type=OPEN, x=c1, w=w2, pad=(1, 1, 1, 1), bits=4, kernel="ramp", **fold))
    c2 = fire("c2", 900)
    b.add(Conv2d(name="f3.m", type=OPEN, x=c2, w=weights("w3", 128, 32, 5, 5), bits=4, kernel="ramp", **fold))
    b.add(Flatten(name="f3.v", type=OPEN, x=Ref("f3.m")))
    f3 = fire("f3", 900)
    b.add(Dense(name="f4.v", type=OPEN, x=f3, w=weights("w4", 10, 128), bits=4, kernel="ramp"))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("f4.v"),), rule="membrane", width=32))
    return b.net()


def joined(second: tuple[int, ...]) -> Net:
    """A flattened 2x2x2 convolution plus another branch of 8 neurons on the same membrane."""
    rng, b = np.random.default_rng(3), Builder("joined", ticks=4)
    b.add(Input(name="in", type=Analog((1, 3, 3), 0, 9)))
    b.add(
        Conv2d(
            name="a", type=OPEN, x=Ref("in"), w=b.array("wa", rng.integers(-7, 8, (2, 1, 2, 2)).astype(np.int8)), bits=4
        )
    )
    b.add(Flatten(name="af", type=OPEN, x=Ref("a")))
    w = b.array("wb", rng.integers(-7, 8, second).astype(np.int8))
    if len(second) == 4:
        b.add(Conv2d(name="b", type=OPEN, x=Ref("in"), w=w, bits=4))
        b.add(Flatten(name="bf", type=OPEN, x=Ref("b")))
    else:
        b.add(Flatten(name="flat", type=OPEN, x=Ref("in")))
        b.add(Dense(name="bf", type=OPEN, x=Ref("flat"), w=w, bits=4))
    b.add(Add(name="v", type=OPEN, xs=(Ref("bf"), Ref("af"))))
    b.add(
        Fire(
            name="s",
            type=OPEN,
            v=Ref("v"),
            theta=b.array("t", rng.integers(-20, 60, (8, 4)).astype(np.int32)),
            width=32,
        )
    )
    b.add(Dense(name="o", type=OPEN, x=Ref("s"), w=b.array("wo", rng.integers(-7, 8, (2, 8)).astype(np.int8)), bits=4))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o"),), rule="membrane", width=32))
    return b.net()


def skipping() -> Net:
    """a -> b -> c, and a skip connection from a to c."""
    rng, b = np.random.default_rng(5), Builder("skip", ticks=4)
    b.add(Input(name="in", type=Analog((1, 4, 4), 0, 9)))

    def conv(name: str, x: str, inputs: int) -> Ref:
        w = b.array(f"{name}.w", rng.integers(-7, 8, (2, inputs, 3, 3)).astype(np.int8))
        return Ref(b.add(Conv2d(name=name, type=OPEN, x=Ref(x), w=w, pad=(1, 1, 1, 1), bits=4)).name)

    def fire(name: str, v: Ref) -> Ref:
        theta = b.array(f"{name}.t", np.array([[40, 30, 20, 10]], np.int32))
        return Ref(b.add(Fire(name=name, type=OPEN, v=v, theta=theta, width=32)).name)

    fire("a", conv("a.v", "in", 1))
    fire("b", conv("b.v", "a", 2))
    total = b.add(Add(name="sum", type=OPEN, xs=(conv("c.v", "b", 2), conv("c.s", "a", 2))))
    fire("c", Ref(total.name))
    b.add(Flatten(name="flat", type=OPEN, x=Ref("c")))
    w = b.array("o.w", rng.integers(-7, 8, (3, 32)).astype(np.int8))
    b.add(Dense(name="o", type=OPEN, x=Ref("flat"), w=w, bits=4))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o"),), rule="membrane", width=32))
    return b.net()
