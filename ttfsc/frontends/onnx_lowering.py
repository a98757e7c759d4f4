"""The shared lowering, for views: the graph's input, arithmetic per channel, concatenations, quantisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttfsc.frontends.lowering import Lowering
from ttfsc.frontends.onnx_file import GraphInput
from ttfsc.frontends.onnx_grid import one_grid
from ttfsc.frontends.onnx_tensor import Known
from ttfsc.frontends.onnx_view import BATCH_AXIS, Change, View, over_atoms, row_order, whole
from ttfsc.frontends.value import Declared, Refused, Value, Waiting
from ttfsc.ir import (
    OPEN,
    Array,
    Conv2d,
    Dense,
    Fault,
    Fire,
    Flatten,
    Loc,
    MaxPool,
    Ref,
    Shape,
    codes,
    show_shape,
)  # fmt: skip

MAX_LEVELS = 64  # ticks of the longest window


class OnnxLowering(Lowering):
    """Lowers views. The input is made when the first layer says which of its axes are channels, height and width."""

    def __init__(self, name: str, declared: Declared, source: GraphInput, batch: int, opset: int) -> None:
        super().__init__(name, declared)
        self.source, self.size, self.opset = source, batch, opset
        self.order: tuple[int, ...] | None = None  # the atoms of the input in the net's order, once it is made
        self.made: Value | None = None
        self.range: tuple[int, int] | None = declared.range
        self.scale: float | None = declared.scale

    # -- input ---------------------------------------------------------------------------------------------------------

    def declare(self, low: int, high: int, scale: float) -> bool:
        """What a quantiser on the input, or its integer type, says about it; False where the user said otherwise."""
        if self.range is None:
            self.range, self.scale = (low, high), scale if self.declared.scale is None else self.declared.scale
            self.note(f"the input is integers {low}..{high} times {self.scale:g}, as the model itself says")
            return True
        if not (low <= self.range[0] and self.range[1] <= high):
            return False
        if self.scale is None:  # only the range was declared: the integers are the quantiser's
            self.scale = scale
        return abs(self.scale - scale) <= 1e-6 * scale

    def settled(self, view: View) -> View:
        """The view, its input made: as an image where its axes are kept apart, else as what is flattened into a row."""
        if not view.raw:
            return view
        if len(view.axes) in (3, 4) and not any(len(axis) > 1 for axis in view.axes):
            return self.image(view)
        used = row_order(view)
        if used is None or len(used) > 3:
            raise Refused(f"reads the input as {list(view.shape(self.size))}, which is neither an image nor a row")
        return self._made_input(view, [-1, *used] if len(used) == 2 else used or [-1])

    def image(self, view: View) -> View:
        """The view as [N, C, H, W]; [N, C, L] is an image of height 1."""
        if len(view.axes) not in (3, 4) or view.axes[0] != BATCH_AXIS or any(len(axis) > 1 for axis in view.axes):
            raise Refused(
                f"reads {list(view.shape(self.size))} where an image [N, channels, height, width] is expected; keep "
                "the axes apart until the first dense layer"
            )
        if view.raw:
            order = [axis[0] if axis else -1 for axis in view.axes[1:]]
            if len(order) == 2:
                order.insert(1, -1)
            return self._made_input(view, order)
        if len(view.atoms) != 3 or len(view.parts[0].shape) != 3:
            raise Refused("reads a row of neurons as an image; neurons of a dense layer have no places: use Gemm on it")
        wanted = [() if size == 1 else (i,) for i, size in enumerate(view.atoms)]
        if len(view.axes) == 3 and view.atoms[1] == 1:
            del wanted[1]
        if list(view.axes[1:]) != wanted:
            raise Refused(
                "reads an activation whose axes are not channels, height, width in this order; ONNX convolutions and "
                "pools want [N, C, H, W]: take the Transpose out, or undo it before this node"
            )
        return view

    def row(self, view: View) -> View:
        """The view with its value as one row of neurons, in the value's own order."""
        view = self.settled(view)
        if row_order(view) is None:
            raise Refused(
                f"reads {list(view.shape(self.size))} row by row; put a Flatten in front of it so that one row is a "
                "whole sample"
            )
        name, self.base = self.base, f"{self.base}.flat"
        try:
            return view.each(self.flatten)
        finally:
            self.base = name

    def _made_input(self, view: View, order: Sequence[int]) -> View:
        """Make the input with its axes in this order (-1: an axis of size 1), then apply what was computed on it."""
        if self.made is None:
            shape = tuple(1 if a < 0 else view.atoms[a] for a in order)
            self.order, self.made = tuple(order), self._declared_input(shape)
            own = tuple(n for n in view.atoms if n > 1)
            if own != tuple(n for n in shape if n > 1):
                fact = f"the model's input is {show_shape(view.atoms)}, the net's {show_shape(shape)}"
                self.note(f"{fact}: channels, height, width")
        if tuple(order) != self.order:
            raise Refused(
                "reads the input with its axes in another order than the layer before; transpose it once only"
            )
        axes = tuple(tuple(order.index(a) for a in axis) for axis in view.axes[1:])
        seen = View((self.made,), self.made.shape, (BATCH_AXIS, *axes))
        for change in view.changes:
            seen = self.affine_over(seen, _reordered(change.scale, order), _reordered(change.shift, order))
        return seen

    def _declared_input(self, shape: Shape) -> Value:
        low_high, scale = self.range, self.scale
        seen = self.declared.seen
        if low_high is None and seen is not None:
            low_high, scale = seen[:2], seen[2] if scale is None else scale
            self.note(
                f"the input is taken as integers {seen[0]}..{seen[1]} times {scale:.6g}, as the sample inputs are"
            )
        if low_high is None:
            fact = (
                "the model does not say which integers its input takes: give --input-range 0..255 (real value = "
                "integer * scale), and --input-scale where the model does not see the integers themselves, such as "
                "0.00392157 for pixels scaled to 0..1; or sample inputs, --calib X.npz"
            )
            self.faults.append(Fault(codes.INPUT, Loc(self.loc.file), f"input {self.source.name}", fact))
            low_high = (0, 255)
        loc = Loc(self.loc.file, origin=self.source.name)
        before, self.loc = self.loc, loc
        try:
            return self.input(
                shape, *low_high, 1.0 if scale is None else scale, name=clean(self.source.name) or "input"
            )
        finally:
            self.loc = before

    # -- arithmetic ----------------------------------------------------------------------------------------------------

    def affine_view(self, view: View, scale: Array, shift: Array) -> View:
        """scale * x + shift; the constants broadcast against the tensor."""
        factor, offset = (over_atoms(np.asarray(a, np.float64), view) for a in (scale, shift))
        if view.raw:
            return replace(view, changes=(*view.changes, Change(factor, offset)))
        return self.affine_over(view, factor, offset)

    def affine_over(self, view: View, scale: Array, shift: Array) -> View:
        """scale * x + shift; the constants broadcast against the value's atoms."""
        parts, at = list[Value](), 0
        joined = len(view.parts) > 1
        for part in view.parts:
            count = part.shape[0] if joined else view.atoms[0]
            mine = [a[at : at + count] if joined and a.ndim and a.shape[0] > 1 else a for a in (scale, shift)]
            parts.append(self._affine_one(part, view, mine[0], mine[1]))
            at += count
        return replace(view, parts=tuple(parts))

    def _affine_one(self, x: Value, view: View, scale: Array, shift: Array) -> Value:
        if scale.size == 1 and not shift.any() and float(scale.reshape(-1)[0]) > 0 and not self.is_membrane(x):
            return replace(x, unit=x.unit * float(scale.reshape(-1)[0]), spiking=False)
        placed = len(view.atoms) == 3 and any(a.ndim == 3 and a.shape[1:] != (1, 1) for a in (scale, shift))
        if placed and any(len(axis) > 1 for axis in view.axes):
            x = self.flatten(x)  # the tensor is flattened already: every neuron is a channel
        flat = len(x.shape) == 1 and len(view.atoms) == 3
        if flat:
            full = (x.size // (view.atoms[1] * view.atoms[2]), *view.atoms[1:])
            scale, shift = (np.broadcast_to(a, full).reshape(-1) for a in (scale, shift))
        elif placed and (scale == scale.reshape(-1)[0]).all():
            return self._mapped(self._scaled(x, float(scale.reshape(-1)[0])), np.broadcast_to(shift, x.shape))
        elif placed:
            raise Refused(
                "multiplies every place by a number of its own; one number, or one per channel, is understood"
            )
        return self.affine(x, scale.reshape(-1), shift.reshape(-1), tag="norm" if self.taken(self.base) else "")

    def _scaled(self, x: Value, scale: float) -> Value:
        return x if scale == 1 else self.affine(x, np.full(1, scale), np.zeros(1), tag="norm")

    def _mapped(self, x: Value, shift: Array) -> Value:
        """A constant of its own for every neuron of a convolution's result."""
        op = self.op(x.ref)
        if not isinstance(op, Conv2d) or x.waiting:
            raise Refused(
                "adds a constant that differs from place to place; only behind a convolution is that a bias: add one "
                "number per channel, or use an image that has it already"
            )
        own = 0 if op.bias is None else self.arrays[op.bias]
        own = own.reshape(-1, 1, 1) if isinstance(own, np.ndarray) and own.ndim == 1 else own
        name = self.fresh("map")
        bias = self.const(f"{name}.bias", np.asarray(own + shift, np.float32))
        self.builder.add(replace(op, name=name, type=OPEN, bias=bias, loc=self.loc))
        return replace(x, ref=Ref(name), nonneg=False)

    def add_views(self, a: View, b: View) -> View:
        """Two branches."""
        a, b = self.settled(a), self.settled(b)
        if a.shape(self.size) != b.shape(self.size):
            shapes = f"{list(a.shape(self.size))} and {list(b.shape(self.size))}"
            raise Refused(f"adds {shapes}; branches must agree in shape: no branch is repeated to fit the other")
        if len(a.parts[0].shape) != len(b.parts[0].shape):
            a, b = a.each(self.flatten), b.each(self.flatten)
        if a.axes != b.axes or a.atoms != b.atoms:
            raise Refused("adds activations whose axes are in different order; transpose neither or both")
        if [p.shape for p in a.parts] != [p.shape for p in b.parts]:
            raise Refused("adds concatenations that are joined at different channels; add first, then concatenate")
        parts = tuple(one_grid(self, self.add(p, q)) for p, q in zip(a.parts, b.parts, strict=True))
        return replace(a, parts=parts)

    # -- neurons -------------------------------------------------------------------------------------------------------

    def clipped(self, x: Value, top: float) -> Value:
        """min(max(x, 0), top)."""
        if top <= 0 or not np.isfinite(top):
            return self.clip(x, top)  # which refuses it
        return self._ranged(x, top, 0, 0.0)

    def levels(self, x: Value, scale: float, count: int, *, nearest: bool) -> Value:
        """A quantiser with the values 0, scale, ..., count * scale: neurons of that range and, if they fit, ticks.

        Spike times round down; rounding to the nearest level is half a level more on the membrane.
        """
        if count < 2:
            raise Refused(f"quantises to {count + 1} levels; a window has at least two ticks, three levels with never")
        if count > MAX_LEVELS:
            self.note(
                f"has {count} levels above 0, more than {MAX_LEVELS} ticks; its range is kept, its levels are not"
            )
            return self._ranged(x, count * scale, 0, 0.0)
        return self._ranged(x, count * scale, count, scale / 2 if nearest else 0.0)

    def _ranged(self, x: Value, top: float, ticks: int, shift: float) -> Value:
        """Neurons of range `top`, in place of a ReLU of unknown range where there is one."""
        late, op = list[Waiting](), self.op(x.ref)
        while isinstance(op, MaxPool | Flatten):
            if isinstance(op, MaxPool):
                late.append(Waiting("maxpool", op.kernel, op.stride, op.pad, op.ceil))
            else:
                late.append(Waiting("flatten"))
            op = self.op(op.x)
        known = isinstance(op, Fire) and op.theta is not None
        own = op.ticks if isinstance(op, Fire) else 0
        if known and (abs(x.unit / top - 1) < 1e-6 if ticks and own == ticks else not ticks and x.unit <= top):
            return x  # quantised to these levels already, or cannot reach the clip
        if isinstance(op, Fire) and op.theta is None:
            v, unit = self.whole(Ref(op.v)), x.unit
            v = replace(v, waiting=tuple(reversed(late)))
        elif self.is_membrane(x):
            v, unit = x, 1.0
        else:
            v, unit = self.ones(replace(x, unit=1.0), "level"), x.unit
        own_top = top / unit
        if shift:
            bare = self.affine(replace(v, waiting=()), np.ones(1), np.full(1, shift / unit), tag="half")
            v = replace(bare, waiting=v.waiting)
        theta = np.full(1, own_top, np.float64)
        return self._fire(v, theta, top, ticks, spiking=False)

    # -- weights ---------------------------------------------------------------------------------------------------

    def weights(self, known: Known, array: Array, step: Array | None) -> tuple[Known, Known | None, int]:
        """Weights [out, ...], the step per output where they lie on a grid, and the grid's bits."""
        finite(known.name, array)
        if step is None:
            return Known(known.name, array), None, 0
        rows = np.broadcast_to(step, array.shape).reshape(len(array), -1)
        if (rows != rows[:, :1]).any():
            self.note(f"{known.name} has a step per input, which no sum of integers can keep; its real values are used")
            return Known(known.name, array), None, 0
        return Known(known.name, array), Known(f"{known.name}.step", np.array(rows[:, 0])), known.bits

    def conv_view(
        self, view: View, w: Known, step: Known | None, bits: int, bias: Known | None, options: dict[str, object]
    ) -> View:
        """A convolution of an image; one that reads a concatenation is the sum of convolutions of its parts."""
        groups = options["groups"]
        assert isinstance(groups, int)
        if len(view.parts) == 1:
            x = view.parts[0]
            out = self.conv(x, w, bias, step=step, bits=bits, **options)  # pyright: ignore[reportArgumentType]
            return whole(out)
        if groups == 1:
            sums, at = list[Value](), 0
            for i, x in enumerate(view.parts):
                part = Known(f"{w.name}.part{i}", np.ascontiguousarray(w.array[:, at : at + x.shape[0]]))
                at += x.shape[0]
                with_bias = bias if i == 0 else None
                sums.append(self.conv(x, part, with_bias, step=step, bits=bits, **options))  # pyright: ignore
            return whole(self.total(sums))
        per_in, per_out = w.array.shape[1], w.array.shape[0] // groups
        parts, at = list[Value](), 0
        for i, x in enumerate(view.parts):
            if x.shape[0] % per_in:
                raise Refused("has groups that reach across the parts of a concatenation; use groups=1")
            count = x.shape[0] // per_in
            rows = slice(at * per_out, (at + count) * per_out)
            at += count
            part, own, grid = (_cut(k, rows, i) for k in (w, bias, step))
            assert part is not None
            parts.append(self.conv(x, part, own, step=grid, bits=bits, **{**options, "groups": count}))  # pyright: ignore
        return joined(parts)

    def dense_view(self, view: View, w: Known, step: Known | None, bits: int, bias: Known | None) -> View:
        """A dense layer on rows; w [out, in] in the value's own order."""
        if len(view.parts) == 1:
            return whole(self.dense(view.parts[0], w, bias, step=step, bits=bits))
        sums, at = list[Value](), 0
        for i, x in enumerate(view.parts):
            part = Known(f"{w.name}.part{i}", np.ascontiguousarray(w.array[:, at : at + x.size]))
            at += x.size
            sums.append(self.dense(x, part, bias if i == 0 else None, step=step, bits=bits))
        return whole(self.total(sums))

    def total(self, parts: Sequence[Value]) -> Value:
        """The sum of membranes."""
        result = parts[0]
        for part in parts[1:]:
            result = self.add(result, part)
        return result

    def compared(self, value: Value) -> Value:
        """The read-out. Its classes are compared, so steps of their own are given up, with a note."""
        op = self.op(value.ref)
        while isinstance(op, Flatten):
            op = self.op(op.x)
        if not isinstance(op, Conv2d | Dense) or op.step is None:
            return value
        steps = self.arrays[op.step]
        if not (np.abs(steps - steps[0]) > 1e-6 * steps[0]).any():
            return value
        self.note("its weights have a step per class, but classes are compared: they get one step of 8 bits instead")
        made = replace(op, name=self.fresh("scores"), type=OPEN, step=None, bits=8)
        self.builder.add(made)
        return self.flatten(self.whole(Ref(made.name)))


def joined(parts: Sequence[Value]) -> View:
    """Values [C, H, W] or rows, joined along their first axis."""
    rest = parts[0].shape[1:]
    atoms = (sum(p.shape[0] for p in parts), *rest)
    axes = tuple(() if n == 1 else (i,) for i, n in enumerate(atoms))
    return View(tuple(parts), atoms, (BATCH_AXIS, *axes))


def clean(name: str) -> str:
    """A name that the text form of a net can hold."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_./-") else "_" for c in name).lstrip("./-")
    return kept[:120]


def finite(name: str, array: Array) -> Array:
    """The array; refuses NaN and infinity, and what is infinite in float32."""
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            count = int(array.size - np.count_nonzero(np.isfinite(array.astype(np.float32))))
        if count:
            fact = f"{name} holds {count} values that are NaN or infinite; train or export it again"
            raise Refused(fact, codes.NONFINITE)
    return array


def _cut(k: Known | None, rows: slice, part: int) -> Known | None:
    return None if k is None else Known(f"{k.name}.part{part}", np.ascontiguousarray(k.array[rows]))


def _reordered(a: Array, order: Sequence[int]) -> Array:
    """A constant over the source's atoms as one over the net's axes."""
    if a.size == 1:
        return a.reshape((1,) * len(order))
    used = [i for i in order if i >= 0]
    dropped = a.reshape([n for i, n in enumerate(a.shape) if i in used]) if len(used) < a.ndim else a
    kept = sorted(used)
    turned = np.transpose(dropped, [kept.index(i) for i in used])
    sizes = iter(turned.shape)
    return turned.reshape([next(sizes) if i >= 0 else 1 for i in order])
