"""Small nets by hand: a builder with one short method per op, arrays drawn from one seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Array,
    AvgPool,
    BatchNorm,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Identity,
    Input,
    MaxPool,
    Net,
    Ref,
    Shape,
    run,
    verify,
)


class Maker:
    """Every method adds one op behind `x` and returns its name."""

    def __init__(
        self, shape: Shape = (2, 6, 6), *, seed: int = 0, low: int = 0, high: int = 255, ticks: int = 1
    ) -> None:
        self.b = Builder("t", ticks=ticks)
        self.rng = np.random.default_rng(seed)
        self.b.add(Input(name="in", type=Analog(shape, low, high), scale=1 / 255))

    def shape(self, name: str) -> Shape:
        return self.b.types[name].shape

    def _array(self, name: str, value: Array | None) -> Any:
        return None if value is None else self.b.array(name, value)

    def conv(
        self,
        name: str,
        x: str,
        out: int,
        k: int | tuple[int, int] = 3,
        *,
        w: Array | None = None,
        bias: Array | None = None,
        drift: Array | None = None,
        step: Array | None = None,
        groups: int = 1,
        **more: Any,
    ) -> str:
        kernel = (k, k) if isinstance(k, int) else k
        shape = (out, self.shape(x)[0] // groups, *kernel)
        w = self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) if w is None else w
        arrays = {"w": w, "bias": bias, "drift": drift, "step": step}
        consts = {key: self._array(f"{name}.{key}", a) for key, a in arrays.items()}
        self.b.add(Conv2d(name=name, type=OPEN, x=Ref(x), groups=groups, **consts, **more))
        return name

    def dense(
        self,
        name: str,
        x: str,
        out: int,
        *,
        w: Array | None = None,
        bias: Array | None = None,
        drift: Array | None = None,
        step: Array | None = None,
        **more: Any,
    ) -> str:
        size = self.shape(x)[0]
        w = self.rng.normal(size=(out, size)) / np.sqrt(size) if w is None else w
        arrays = {"w": w, "bias": bias, "drift": drift, "step": step}
        consts = {key: self._array(f"{name}.{key}", a) for key, a in arrays.items()}
        self.b.add(Dense(name=name, type=OPEN, x=Ref(x), **consts, **more))
        return name

    def norm(self, name: str, x: str, *, scale: Array | None = None, shift: Array | None = None) -> str:
        c = self.shape(x)[0]
        scale = self.rng.normal(size=c) if scale is None else scale
        shift = self.rng.normal(size=c) * 0.3 if shift is None else shift
        s, h = self._array(f"{name}.scale", scale), self._array(f"{name}.shift", shift)
        self.b.add(BatchNorm(name=name, type=OPEN, x=Ref(x), scale=s, shift=h))
        return name

    def fire(self, name: str, v: str, theta: float | Array | None = None, **more: Any) -> str:
        array = None if theta is None else np.atleast_1d(np.asarray(theta))
        self.b.add(Fire(name=name, type=OPEN, v=Ref(v), theta=self._array(f"{name}.theta", array), **more))
        return name

    def avgpool(
        self, name: str, x: str, k: int | tuple[int, int] = 2, s: int | tuple[int, int] = 2, **more: Any
    ) -> str:
        pair = ((k, k) if isinstance(k, int) else k, (s, s) if isinstance(s, int) else s)
        self.b.add(AvgPool(name=name, type=OPEN, x=Ref(x), kernel=pair[0], stride=pair[1], **more))
        return name

    def maxpool(self, name: str, x: str, k: int = 2, s: int = 2, **more: Any) -> str:
        self.b.add(MaxPool(name=name, type=OPEN, x=Ref(x), kernel=(k, k), stride=(s, s), **more))
        return name

    def flatten(self, name: str, x: str) -> str:
        self.b.add(Flatten(name=name, type=OPEN, x=Ref(x)))
        return name

    def identity(self, name: str, x: str) -> str:
        self.b.add(Identity(name=name, type=OPEN, x=Ref(x)))
        return name

    def plus(self, name: str, xs: Sequence[str]) -> str:
        self.b.add(Add(name=name, type=OPEN, xs=tuple(map(Ref, xs))))
        return name

    def skip(self, name: str, x: str) -> str:
        """An identity skip: one weight of 1 per channel."""
        c = self.shape(x)[0]
        return self.conv(name, x, c, 1, w=np.ones((c, 1, 1, 1)), groups=c)

    def answer(self, v: str) -> Net:
        """Read the membrane out, flattened if need be."""
        if len(self.shape(v)) > 1:
            v = self.flatten("flat.out", v)
        self.b.add(Decode(name="out", type=OPEN, xs=(Ref(v),), rule="membrane"))
        return self.b.net()

    def pixels(self, n: int = 6, *, seed: int = 1) -> Array:
        t = self.b.types["in"]
        assert isinstance(t, Analog)
        return np.random.default_rng(seed).integers(t.low, t.high + 1, (n, *t.shape))


def scores(net: Net, x: Array) -> Array:
    return run(net, x).scores


def assert_same_function(before: Net, after: Net, x: Array, *, tolerance: float = 2e-5) -> None:
    """Real nets before and after a pass: equal scores and equal spikes of every layer that both have."""
    verify(after)
    a, b = run(before, x), run(after, x)
    scale = max(1.0, float(np.abs(a.scores).max()))
    np.testing.assert_allclose(b.scores, a.scores, rtol=0, atol=tolerance * scale)
    for name in a.spikes.keys() & b.spikes.keys():
        size = max(1.0, float(np.abs(a.spikes[name]).max()))
        np.testing.assert_allclose(b.spikes[name], a.spikes[name], rtol=0, atol=tolerance * size, err_msg=name)
