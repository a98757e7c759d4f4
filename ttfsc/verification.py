"""The same inputs through every engine: equal in every spike time of every layer, or where they first differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ttfsc.backends import report as reporting
from ttfsc.console import progress
from ttfsc.ir import Array, Fault, Loc, Net, Result, Spikes, TtfsError, codes, run_batches, ticks_of

Engine = Callable[[Array], Result]
_BATCH = 256


@dataclass(frozen=True)
class Difference:
    """The first place where an engine leaves the interpreter: of the earliest layer, the first input and neuron."""

    engine: str
    sample: int
    layer: str
    neuron: tuple[int, ...]
    expected: int
    got: int

    def __str__(self) -> str:
        place = f"input {self.sample}, layer %{self.layer}, neuron {list(self.neuron)}"
        return f"{self.engine} differs from the interpreter at {place}: {self.got} instead of {self.expected}"


@dataclass
class Verification:
    """What was compared with the interpreter, on how many inputs, and how it came out."""

    inputs: dict[str, int] = field(default_factory=dict[str, int])  # engine -> inputs compared
    times: dict[str, int] = field(default_factory=dict[str, int])  # engine -> spike times compared
    differences: list[Difference] = field(default_factory=list[Difference])
    not_run: dict[str, str] = field(default_factory=dict[str, str])  # check -> why it did not run
    notes: list[str] = field(default_factory=list[str])  # what else was proven on the way

    answers: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # the interpreter's labels

    @property
    def exact(self) -> bool:
        """Whether every engine that ran agreed, and at least one ran."""
        return bool(self.inputs) and not self.differences

    def sentences(self) -> list[str]:
        """One line for each engine that ran and each check that did not."""
        found = [
            f"bit-exact: interpreter = {engine} on {count} inputs ({self.times[engine]} spike times)"
            for engine, count in self.inputs.items()
            if not any(d.engine == engine for d in self.differences)
        ]
        found += [*self.notes, *map(str, self.differences)]
        return found + [f"not verified: {check}: {why}" for check, why in self.not_run.items()]

    def for_report(self) -> reporting.Verification:
        """The same, as the report states it."""
        found = {d.engine: str(d) for d in self.differences}
        engines = tuple(reporting.Compared(name, n, found.get(name)) for name, n in self.inputs.items())
        not_run = tuple(f"{check}: {why}" for check, why in self.not_run.items())
        return reporting.Verification(self.exact if engines else None, engines, not_run)

    def raise_if_different(self) -> None:
        """TtfsError when any engine disagreed."""
        if self.differences:
            raise TtfsError([Fault(codes.DIFFERS, Loc(d.engine), "", str(d)) for d in self.differences])


def verify_engines(
    net: Net, x: Array, engines: Mapping[str, tuple[Engine, int]], *, each: Callable[[Result, int], None] | None = None
) -> Verification:
    """Run x through the interpreter and through every engine, batch by batch, and compare.

    engines: name -> (engine, how many inputs at most: slow ones check fewer).
    each: called with every interpreter batch and the index of its first input, e.g. to count spikes.
    """
    verification, labels = Verification(), list[npt.NDArray[np.int64]]()
    with progress("verifying", len(x)) as advance:
        start = 0
        for want in run_batches(net, x, batch=_BATCH):
            if each is not None:
                each(want, start)
            count = len(want.labels)
            labels.append(want.labels)
            for name, (engine, limit) in engines.items():
                take = max(0, min(count, limit - start))
                if take and not any(d.engine == name for d in verification.differences):
                    got = engine(x[start : start + take])
                    verification.inputs[name] = verification.inputs.get(name, 0) + take
                    times = sum(layer[:take].size for layer in want.spikes.values())
                    verification.times[name] = verification.times.get(name, 0) + times
                    difference = first_difference(net, name, want, got, take, start)
                    if difference is not None:
                        verification.differences.append(difference)
            start += count
            advance(count)
    verification.answers = np.concatenate(labels)
    return verification


def first_difference(net: Net, engine: str, want: Result, got: Result, take: int, start: int = 0) -> Difference | None:
    """The first differing spike time (layers in order), score or label among the first `take` inputs; None if equal."""
    for name, spikes in want.spikes.items():
        window = net.type_of(name)
        assert isinstance(window, Spikes)
        if name not in got.spikes or got.spikes[name].shape[1:] != spikes.shape[1:]:
            return Difference(
                engine, start, name, (), spikes[0].size, got.spikes[name][0].size if name in got.spikes else 0
            )
        left, right = spikes[:take], got.spikes[name][:take]
        place = _first(left, right)
        if place is not None:
            sample, neuron = place[0], place[1:]
            expected, other = (int(ticks_of(a[place][None], window)[0]) for a in (left, right))
            return Difference(engine, start + sample, name, neuron, expected, other)
    for what, left, right in (("scores", want.scores, got.scores), ("labels", want.labels, got.labels)):
        place = _first(left[:take], right[:take])
        if place is not None:
            name = f"{net.answer.name} {what}"
            return Difference(engine, start + place[0], name, place[1:], int(left[place]), int(right[place]))
    return None


def _first(a: Array, b: Array) -> tuple[int, ...] | None:
    differs = np.asarray(a).astype(np.int64) != np.asarray(b).astype(np.int64)
    return tuple(int(i) for i in np.argwhere(differs)[0]) if differs.any() else None
