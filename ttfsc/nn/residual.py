"""Residual blocks: two branches whose sums meet on one membrane, in one unit."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor, nn

from ttfsc.nn.spikes import Lattice, Layer, Potential, Spikes, lattice
from ttfsc.nn.synapse import Synapse


class Add(Layer):
    """Sum of the potentials of two branches, [N, C, ...] each: both Tensors (`hold`) or both Potentials (`ramp`).

    In evaluation integers are added. Branches that count in different units have no common integers: ValueError.
    """

    @overload
    def forward(self, a: Tensor, b: Tensor) -> Tensor: ...
    @overload
    def forward(self, a: Potential, b: Potential) -> Potential: ...
    def forward(self, a: Tensor | Potential, b: Tensor | Potential) -> Tensor | Potential:
        """Add sums to sums and, of Potentials, slopes to slopes."""
        if isinstance(a, Potential) and isinstance(b, Potential):
            return Potential(_sum(a.s, b.s), _sum(a.w, b.w))
        if isinstance(a, Potential) or isinstance(b, Potential):
            raise ValueError("one branch ends in a `ramp` synapse, the other in a `hold` synapse; give both one kernel")
        return _sum(a, b)


class Residual(Layer):
    """main(x) + shortcut(x), the drive of the neurons behind it: put a `Fire`, or a batch norm and a `Fire`, next.

    `main` ends in a synapse; `shortcut` is a synapse without bias that gives the same shape: a 1x1 convolution, or a
    depthwise one, `Conv2d(C, C, 1, groups=C, bias=False)`, which is the scaled identity. Both have the same `bits`; the
    shortcut's weights are on the grid of the main branch, whose learned step is that of both, because integers of two
    units cannot be added. Both branches read spikes on the same number of ticks.
    A skip of spikes over later windows is what the compiled net holds back for so long.
    """

    def __init__(self, main: nn.Sequential, shortcut: Synapse) -> None:
        super().__init__()
        last = main[-1] if len(main) else None
        if not isinstance(last, Synapse):
            raise ValueError("the main branch does not end in a synapse: the neurons stand behind the sum")
        if shortcut.bias is not None:
            raise ValueError("the shortcut has a bias, but the sum has one, in the main branch: use bias=False")
        self.main, self.shortcut, self.add = main, shortcut, Add()
        shortcut.borrow_step(last)

    @property
    def last(self) -> Synapse:
        """The synapse that ends the main branch."""
        last = self.main[-1]
        assert isinstance(last, Synapse)
        return last

    def forward(self, x: Tensor | Spikes) -> Tensor | Potential:
        """The potentials of both branches, added: [N, C, ...]."""
        return self.add(self.main(x), self.shortcut(x))


def _sum(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        raise ValueError(f"the branches give {list(a.shape)} and {list(b.shape)}; only equal shapes add")
    if not (isinstance(a, Lattice) and isinstance(b, Lattice)):
        return a + b
    units = [x.unit / x.divisor for x in (a, b)]
    if not torch.allclose(units[0], units[1], rtol=1e-12, atol=0):
        raise ValueError(
            "the branches count in different units, so their integers do not add; let both read spikes of one number "
            "of ticks and range, through the same average pools, and share the weights' step (ttfsc.nn.Residual)"
        )
    biases = [x.bias for x in (a, b) if x.bias is not None]
    bias = sum(biases[1:], biases[0]) if biases else None
    return lattice(a.ints + b.ints, a.unit, a.divisor, bias)
