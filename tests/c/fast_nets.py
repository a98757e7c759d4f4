"""Random windowed layers for the fast kernels: widths, ticks, strides, paddings, dilations, groups, pools."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from c_nets import Hand
from hypothesis import strategies as st

from ttfsc.ir import OPEN, Add, Analog, Flatten, Net, Ref, Spikes

TICKS = (2, 3, 5, 8, 10, 16, 31, 64)


@dataclass(frozen=True)
class Drawn:
    """Where a net's random numbers come from: hypothesis, or a plain generator for large sweeps."""

    rng: np.random.Generator

    def among(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def upto(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))


def conv_options(d: Drawn) -> dict[str, Any]:
    pool = (d.among(1, 1, 2, 3), d.among(1, 1, 2))
    pooled = pool != (1, 1) or d.among(True, False, False, False)  # windows of 1x1 may still leave inputs out
    return {
        "stride": (d.upto(1, 2), d.upto(1, 3)),
        "pad": tuple(d.upto(0, 2) for _ in range(4)),
        "dilation": (d.among(1, 1, 2), d.among(1, 1, 2)),
        "pool": pool,
        "pool_stride": (d.upto(1, 2), d.upto(1, 2)) if pooled else (1, 1),
        "pool_pad": (0, 0, 0, d.upto(0, pool[1] - 1)) if pooled else (0, 0, 0, 0),
    }


def fast_net(seed: int) -> Net:
    """Spikes or pixels, a convolution, perhaps a second branch, a dense read-out; what is drawn follows the seed."""
    d = Drawn(np.random.default_rng(seed))
    ticks, bits = d.among(*TICKS), d.upto(1, 8)
    groups = d.among(1, 1, 2, 3)
    channels = groups * d.among(1, 2, 3, 8, 9)
    outputs = groups * d.among(1, 2, 13, 32, 64) if groups > 1 else d.among(1, 5, 31, 32, 40, 64, 70, 128, 130)
    size = (channels, d.upto(4, 7), d.upto(4, 7))
    pixels = d.among(True, False, False)
    h = Hand("fast", Analog(size, d.among(0, -7), d.among(1, 200)) if pixels else Spikes(size, 0, ticks), ticks)
    kernel = (outputs, channels // groups, d.upto(1, 3), d.upto(1, 3))
    how = "hold" if pixels else d.among("hold", "ramp")
    plain = pixels and d.among(True, False)  # or no kernel for pixels would be drawn but the general one
    options: dict[str, Any] = {"pad": (d.upto(0, 2),) * 4, "stride": (d.upto(1, 2),) * 2} if plain else conv_options(d)
    reach = (np.array(kernel[2:]) - 1) * np.array(options.get("dilation", (1, 1))) + 1
    if (reach > 3).any() or {options.get("pool", (1, 1)), options.get("pool_stride", (1, 1))} != {(1, 1)}:
        options["pad"] = (2, 2, 2, 2)
    if d.among(True, False):
        options["bias"] = d.rng.integers(-90, 90, outputs)
    h.seed = seed % 1000
    h.conv("a.v", "in", kernel, bits=bits, kernel=how, groups=groups, **options)
    grid, v = h.b.types["a.v"].shape, "a.v"
    if options.get("pool", (1, 1)) == (1, 1) and d.among(True, False):
        more = {k: x for k, x in options.items() if k != "bias"}
        beside = d.among(1, groups)
        kernel = (outputs, channels // beside, *kernel[2:])
        h.conv("b.v", "in", kernel, bits=d.upto(1, 8), kernel=how, groups=beside, **more)
        h.op(Add(name="s.v", type=OPEN, xs=(Ref("a.v"), Ref("b.v"))))
        v = "s.v"
    reach_of = max(
        1, channels // groups * kernel[2] * 2 ** (bits - 1) * (20 if pixels else ticks) // d.among(3, 10, 40)
    )
    theta: Any = reach_of
    if d.among(True, False):
        table = d.rng.integers(-reach_of, 2 * reach_of, (*d.among((1,), (outputs,), tuple(grid)), ticks))
        theta = table
    h.fire("a", v, theta, force_last=d.among(True, False, False))
    h.op(Flatten(name="f", type=OPEN, x=Ref("a")))
    n, last = int(np.prod(grid)), d.among("hold", "ramp")
    h.dense("o.v", "f", (d.among(3, 33, 64), n), bits=d.upto(1, 8), kernel=last)
    return h.membrane("o.v")


def pooled_ramp_net(seed: int) -> Net:
    """A `ramp` convolution of fours of channels over sums of windows: what dot products list the inputs of."""
    d = Drawn(np.random.default_rng(seed))
    ticks, channels, outputs = d.among(3, 5, 10), d.among(4, 8, 12), d.among(32, 40, 64)
    h = Hand("fast", Spikes((channels, d.upto(14, 17), d.upto(14, 17)), 0, ticks), ticks)
    h.seed = seed % 1000
    pool = d.among((2, 2), (2, 1), (1, 1))
    taps = {"pool": pool, "pool_stride": (d.upto(1, 2), 2), "stride": (d.upto(1, 2), d.upto(1, 2)), "groups": 1}
    kernel = (outputs, channels, d.upto(1, 4), d.upto(2, 4))
    pad = tuple(d.upto(0, 2) for _ in range(4))
    h.conv("a.v", "in", kernel, bits=d.upto(2, 5), kernel="ramp", pad=pad, dilation=(d.upto(1, 2), 1), **taps)
    h.fire("a", "a.v", d.among(40, 150, 500))
    h.op(Flatten(name="f", type=OPEN, x=Ref("a")))
    h.dense("o.v", "f", (3, int(np.prod(h.b.types["a.v"].shape))), kernel="hold")
    return h.membrane("o.v")


SEEDS = st.integers(0, 2**31 - 1)
