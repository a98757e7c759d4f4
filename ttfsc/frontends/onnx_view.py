"""How an ONNX tensor looks at a value of the net: which of its axes are batch, channels, height and width.

A net holds [C, H, W] or rows; ONNX files transpose, reshape and flatten at will. All of that is relabelling as long as
no number moves to another place, so nothing is computed: a `View` remembers which axes of the value ("atoms") each axis
of the tensor consists of, and whoever reads it permutes weights instead of activations.

    [N, C, H, W]                        axes ((-1,), (0,), (1,), (2,))
    transposed to [N, H, W, C]          axes ((-1,), (1,), (2,), (0,))
    reshaped to [N, H*W*C]              axes ((-1,), (1, 2, 0))

Atoms of size 1 lie nowhere and anywhere, and are left out of `axes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ttfsc.frontends.value import Refused, Value
from ttfsc.ir import Array, Shape, show_shape

BATCH_AXIS = (-1,)
Axes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """scale * x + shift on the graph's input, before it is known what its axes are; each broadcasts over the atoms."""

    scale: Array
    shift: Array


@dataclass(frozen=True, slots=True)
class View:
    """A tensor of the source model."""

    parts: tuple[Value, ...]  # joined along the channels; none: the graph's input, not yet made
    atoms: tuple[int, ...]  # sizes of the value's axes: C, H, W, or features
    axes: Axes
    changes: tuple[Change, ...] = ()  # of the graph's input
    grid: tuple[float, int] | None = None  # the tensor holds integers q, the value is scale * (q - zero): (scale, zero)
    tail: str = ""  # behind an op that may only end the model

    @property
    def raw(self) -> bool:
        """Whether this is still the graph's input."""
        return not self.parts

    def shape(self, batch: int) -> Shape:
        """The tensor's shape in the source model."""
        return tuple(batch if axis == BATCH_AXIS else prod(self.atoms[a] for a in axis) for axis in self.axes)

    def each(self, work: Callable[[Value], Value]) -> View:
        """The same axes on other values of the same shape."""
        return replace(self, parts=tuple(work(p) for p in self.parts))


def whole(value: Value) -> View:
    """A value of the net, as [N, C, H, W] or [N, F]."""
    return View((value,), value.shape, (BATCH_AXIS, *_natural(value.shape)))


def _natural(atoms: Shape) -> Axes:
    return tuple(() if size == 1 else (i,) for i, size in enumerate(atoms))


def no_batch(view: View) -> int:
    """The position of the batch axis, which must be the first."""
    if not view.axes or view.axes[0] != BATCH_AXIS:
        raise Refused("has its batch axis not in front; keep [N, ...] throughout")
    return 0


def transposed(view: View, order: Sequence[int]) -> View:
    """Axes in another order."""
    if sorted(order) != list(range(len(view.axes))):
        raise Refused(f"permutes the axes {list(order)} of a tensor of {len(view.axes)}")
    return replace(view, axes=tuple(view.axes[i] for i in order))


def reshaped(view: View, shape: Sequence[int], batch: int) -> View:
    """The same numbers in the same order under another shape; `shape` has no 0 and at most one -1."""
    now = view.shape(batch)
    wanted = [int(n) for n in shape]
    if wanted.count(-1) > 1 or any(n < -1 or n == 0 for n in wanted):
        raise Refused(f"reshapes {list(now)} to {wanted}, which is no shape")
    if -1 in wanted:
        rest = prod(n for n in wanted if n != -1)
        if prod(now) % rest:
            raise Refused(f"reshapes {list(now)} to {wanted}, which does not fit")
        wanted[wanted.index(-1)] = prod(now) // rest
    if prod(now) != prod(wanted):
        raise Refused(f"reshapes {list(now)} to {wanted}: {prod(now)} numbers are not {prod(wanted)}")
    if not wanted or wanted[0] != batch or view.axes[:1] != (BATCH_AXIS,):
        if batch == 1 and prod(wanted) == prod(view.atoms):  # the batch of one is squeezed away or moved
            return _batchless(view, wanted)
        raise Refused(f"reshapes {list(now)} to {wanted}, which mixes samples; keep the batch as the first axis")
    order = [a for axis in view.axes[1:] for a in axis]
    axes = _grouped([view.atoms[a] for a in order], order, wanted[1:])
    if axes is not None:
        return replace(view, axes=(BATCH_AXIS, *axes))
    if view.raw and all(c.scale.size == 1 and c.shift.size == 1 for c in view.changes):
        if order != sorted(order):
            raise Refused("splits an axis of the transposed input; give the input the shape that the layers want")
        atoms = tuple(wanted[1:])
        flat = tuple(Change(c.scale.reshape(()), c.shift.reshape(())) for c in view.changes)
        return replace(view, atoms=atoms, axes=(BATCH_AXIS, *_natural(atoms)), changes=flat)
    raise Refused(
        f"reshapes {list(now)} to {wanted}, which splits an axis of an activation; neurons keep their places: only "
        "flattening and axes of size 1 are understood"
    )


def _grouped(sizes: list[int], order: list[int], wanted: Sequence[int]) -> Axes | None:
    """Atoms in order, gathered into axes of the wanted sizes; None where an atom would have to be split."""
    axes, at = list[tuple[int, ...]](), 0
    for size in wanted:
        axis, product = list[int](), 1
        while product < size and at < len(order):
            axis.append(order[at])
            product *= sizes[at]
            at += 1
        if product != size:
            return None
        axes.append(tuple(axis))
    return tuple(axes) if at == len(order) else None


def _batchless(view: View, wanted: list[int]) -> View:
    """A reshape with a batch of one where the first axis is not the batch: the batch is put where a 1 stands."""
    order = [a for axis in view.axes if axis != BATCH_AXIS for a in axis]
    axes = _grouped([view.atoms[a] for a in order], order, wanted)
    if axes is None:
        raise Refused(f"reshapes to {wanted} across the batch axis; keep the batch as the first axis")
    if () in axes:
        at = axes.index(())
        return replace(view, axes=(*axes[:at], BATCH_AXIS, *axes[at + 1 :]))
    return replace(view, axes=axes)


def squeezed(view: View, at: Sequence[int] | None, batch: int) -> View:
    """Without axes of size 1; all of them but the batch where none are named."""
    rank = len(view.axes)
    if at is None:
        gone = {i for i, axis in enumerate(view.axes) if axis == ()}
    else:
        gone = {i % rank if -rank <= i < rank else rank for i in at}
    bad = [i for i in gone if i >= rank or view.axes[i] != ()]
    if bad:
        raise Refused(f"squeezes axes {sorted(gone)} of {list(view.shape(batch))}, which are not all of size 1")
    return replace(view, axes=tuple(axis for i, axis in enumerate(view.axes) if i not in gone))


def unsqueezed(view: View, at: Sequence[int]) -> View:
    """With axes of size 1 put in at these positions of the result."""
    rank = len(view.axes) + len(at)
    if any(not -rank <= i < rank for i in at) or len({i % rank for i in at}) < len(at):
        raise Refused(f"puts axes at {list(at)} of a tensor of {rank}")
    new, rest = {i % rank for i in at}, iter(view.axes)
    return replace(view, axes=tuple(() if i in new else next(rest) for i in range(rank)))


def flattened(view: View, axis: int, batch: int) -> View:
    """ONNX Flatten: two axes, split at `axis`."""
    rank = len(view.axes)
    at = axis % rank if axis < 0 else axis
    if at == 1:
        order = tuple(a for group in view.axes[1:] for a in group)
        no_batch(view)
        return replace(view, axes=(BATCH_AXIS, order))
    shape = view.shape(batch)
    return reshaped(view, (prod(shape[:at]), prod(shape[at:])), batch)


def over_atoms(array: Array, view: View) -> Array:
    """A constant that broadcasts against the tensor, shaped to broadcast over the value's atoms."""
    rank = len(view.axes)
    if array.ndim > rank:
        array = array.reshape(array.shape[array.ndim - rank :]) if array.size == prod(array.shape[-rank:]) else array
    if array.ndim > rank:
        raise Refused(f"computes with a constant of shape {show_shape(array.shape)}, of more axes than the activation")
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    sizes, order = list[int](), list[int]()
    for axis, size in zip(view.axes, array.shape, strict=True):
        full = prod(view.atoms[a] for a in axis) if axis != BATCH_AXIS else 1
        if size not in (1, full):
            raise Refused(
                f"computes with a constant of shape {show_shape(array.shape)} that would enlarge the activation "
                f"{list(view.shape(1))}"
            )
        if axis != BATCH_AXIS:
            sizes += [view.atoms[a] if size > 1 else 1 for a in axis]
            order += axis
    split = array.reshape(sizes) if order else array.reshape(())
    full_rank = np.transpose(split, np.argsort(order)) if order else split
    shape = [1] * len(view.atoms)
    for a, size in zip(sorted(order), full_rank.shape, strict=True):
        shape[a] = size
    return full_rank.reshape(shape)


def row_order(view: View) -> list[int] | None:
    """The atoms of a tensor [N, everything]; None where it is no such tensor."""
    used = [axis for axis in view.axes[1:] if axis]
    if view.axes[:1] != (BATCH_AXIS,) or len(used) > 1:
        return None
    return list(used[0]) if used else []


def canonical_rows(weights: Array, view: View) -> Array:
    """[in, ...] in the tensor's order of inputs, as [in, ...] in the value's own order."""
    order = row_order(view)
    assert order is not None
    if order == sorted(order):
        return weights
    split = weights.reshape(*[view.atoms[a] for a in order], *weights.shape[1:])
    back = [int(i) for i in np.argsort(order)]
    rest = range(len(order), split.ndim)
    return np.ascontiguousarray(np.transpose(split, [*back, *rest])).reshape(weights.shape)
