"""Which synapses must share a unit: those whose potentials meet in a sum, directly or through others."""

import logging
from dataclasses import dataclass

import numpy as np

from ttfsc.ir import Decode, Fire, Net
from ttfsc.passes.rewrite import SynapseOp, read_potential, reals, synapses_into
from ttfsc.passes.windows import Windows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sum:
    """Synapses of one unit, and who reads their sums."""

    synapses: tuple[SynapseOp, ...]
    readers: tuple[Fire | Decode, ...]
    one_unit: bool  # for all channels, not per channel

    @property
    def compared(self) -> bool:
        """Whether somebody compares membranes, so that biases must be inside."""
        return any(isinstance(r, Decode) for r in self.readers)

    def ticks(self, windows: Windows) -> int:
        """T of the window in which the membrane lives."""
        return windows[self.readers[0].name]


def sums_of(net: Net) -> list[Sum]:
    """All synapse ops of a canonical net, grouped."""
    readers = [op for op in net.ops if isinstance(op, Fire | Decode) and read_potential(op) is not None]
    groups = list[tuple[dict[str, SynapseOp], list[Fire | Decode]]]()
    for reader in readers:
        potential = read_potential(reader)
        assert potential is not None
        mine, by = {s.name: s for s in synapses_into(net, potential)}, [reader]
        for other in [g for g in groups if not mine.keys().isdisjoint(g[0])]:
            groups.remove(other)
            mine, by = other[0] | mine, [*other[1], *by]
        groups.append((mine, by))
    return [Sum(tuple(ops.values()), tuple(by), _one_unit(net, tuple(ops.values()), by)) for ops, by in groups]


def _one_unit(net: Net, ops: tuple[SynapseOp, ...], readers: list[Fire | Decode]) -> bool:
    rules = {r.rule for r in readers if isinstance(r, Decode)}
    if rules == {"first_spike"} and any(_uneven(net, op) for op in ops):
        log.warning(
            "%s: %s: trained with one step per class; spikes are exact, but ties between classes that fire in one tick "
            "are decided by membranes in each class's own unit (train with one step per tensor to compare them)",
            ops[0].loc, ops[0].subject,
        )  # fmt: skip
        return False
    if rules:
        return True
    return len({op.type.shape for op in ops}) > 1  # a flatten lies between: channels of one are neurons of the other


def _uneven(net: Net, op: SynapseOp) -> bool:
    if op.step is None:
        return False
    step = reals(net.arrays, op.step)
    return bool((np.abs(step - step[0]) > 1e-6 * step[0]).any())
