"""How many ticks each window of a real net gets when it is quantised."""

from dataclasses import replace
from typing import TypeVar

from ttfsc.ir import (
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fault,
    Fire,
    Input,
    Net,
    Op,
    Potential,
    Scores,
    Spikes,
    codes,
)  # fmt: skip
from ttfsc.passes.rewrite import read_potential, source_of, synapses_into

DEFAULT_TICKS = 16
OpT = TypeVar("OpT", bound=Op)


class Windows:
    """T of every op that gives spikes (input, encode, fire) and of every decode.

    Real windows are one unit long and get T ticks; those of streaming nets are in ticks already and stay.
    """

    def __init__(self, net: Net, ticks: int) -> None:
        self.net = net
        trained = {op.ticks for op in net.ops if isinstance(op, Fire) and op.ticks}
        self.free = ticks or (trained.pop() if len(trained) == 1 else DEFAULT_TICKS)
        self._ticks = dict[str, int]()
        streamed = {
            source_of(net, op.x).name
            for op in net.ops
            if isinstance(op, Conv2d | Dense) and op.kernel in ("step", "leak")
        }
        for op in net.ops:
            if isinstance(op, Fire):
                self._ticks[op.name] = self.fixed(net, op, done=False) or self.free
            elif isinstance(op, Input | Encode) and isinstance(op.type, Spikes):
                stays = op.type.ticks > 1 or op.name in streamed
                self._ticks[op.name] = op.type.ticks if stays else self.free
            elif isinstance(op, Decode):
                self._ticks[op.name] = self._of_decode(op)

    @staticmethod
    def fixed(net: Net, op: Fire, *, done: bool) -> int:
        """The T that a layer was trained for or, streaming or `done` (already integer), has; 0 = free."""
        membrane = net.type_of(op.v)
        assert isinstance(op.type, Spikes)
        streaming = isinstance(membrane, Potential) and membrane.streaming
        return op.type.ticks if streaming or done else op.ticks

    def __contains__(self, name: str) -> bool:
        return name in self._ticks

    def __getitem__(self, name: str) -> int:
        return self._ticks[name]

    def unit(self, source: Input | Encode | Fire) -> float:
        """What one integer step of a spike's value is worth in the real net."""
        assert isinstance(source.type, Spikes)
        windowed = isinstance(source, Fire) and not self.streams(source)
        return (1 if windowed else source.type.ticks) / self[source.name]

    def streams(self, op: Fire) -> bool:
        """Whether the neuron shares its input's window."""
        membrane = self.net.type_of(op.v)
        return isinstance(membrane, Potential) and membrane.streaming

    def stretched(self, op: OpT) -> OpT:
        """The op with its window in ticks; where it opens follows from its operands."""
        if op.name not in self._ticks:
            return op
        ticks, t = self[op.name], op.type
        assert isinstance(t, Spikes | Scores)
        return replace(op, type=replace(t, closes=t.opens + ticks))

    def faults(self) -> list[Fault]:
        """A membrane that rises by one weight a tick has the unit of its input only if both windows have one length."""
        found = list[Fault]()
        for op in self.net.ops:
            if not isinstance(op, Fire | Decode):
                continue
            potential = read_potential(op)
            for synapse in synapses_into(self.net, potential) if potential is not None else ():
                source = source_of(self.net, synapse.x)
                if synapse.kernel == "ramp" and self[source.name] != self[op.name]:
                    fact = (
                        f"kernel=ramp reads {source.subject} of {self[source.name]} ticks into {op.subject} of "
                        f"{self[op.name]}: a rising membrane needs one T on both sides; train both layers for the same"
                    )
                    found.append(Fault(codes.WINDOW, synapse.loc, synapse.subject, fact))
        return found

    def _of_decode(self, op: Decode) -> int:
        first = self.net.by_name[op.xs[0]].type
        if isinstance(first, Spikes):
            return self._ticks[source_of(self.net, op.xs[0]).name]
        assert isinstance(first, Potential) and isinstance(op.type, Scores)
        if first.streaming:
            return op.type.ticks
        rising = [s for s in synapses_into(self.net, op.xs[0]) if s.kernel == "ramp"]
        return self._ticks[source_of(self.net, rising[0].x).name] if rising else self.free
