"""Real net -> integer net: weights onto a grid, ranges and biases into threshold tables, windows onto ticks.

    %v = conv2d %in w=@w bias=@b : potential<16x26x26, 0..>   =>  %v = conv2d %in w=@w bits=4 : potential<16x26x26, 0..>
    %a = fire %v theta=@t        : spikes<16x26x26, 0..1>         %a = fire %v theta=@a.theta : spikes<16x26x26, 0..10>

Weights: k bits, symmetric, no zero point, one step per output channel; one for all outputs where membranes are
compared (everything that adds into a `decode`). A grid the net was trained on (`step`, `bits`) is taken over exactly.
Branches of a sum share one unit (`ttfsc.passes.grid`). Thresholds: `ttfsc.passes.thresholds`; tables are clamped to
what the membrane can reach, which changes no decision. Read-outs keep an integer bias round(bias / unit).

Windowed layers: unit = step * in_unit, in_unit = the input's scale or 1/T; a real window 0..1 becomes 0..T.
Streaming layers (kernel step, leak) are already on ticks: windows stay, a spike adds w once (in_unit = 1), and the real
threshold Theta becomes ceil(Theta / unit) at every tick: V >= Theta and unit V' >= Theta agree up to the rounding of
the weights. A `step` neuron's bias is absorbed into the table; a `leak` neuron's is rounded to integers, as it decays.

What was not trained can be rounded with more care. `nearest`: thresholds half a tick lower make ticks round to the
nearest level instead of down. `compensate`: weights are rounded so that sums stay (`ttfsc.passes.compensate`).
`correct`: biases take over what rounding moved the mean membrane of sample inputs by. The last two need `calibration`.
"""

import logging
from dataclasses import replace
from typing import Literal

import numpy as np

from ttfsc.ir import (
    Add,
    Analog,
    Array,
    Bounds,
    Const,
    Conv2d,
    Decode,
    Dense,
    Fault,
    Fire,
    Input,
    Loc,
    Net,
    Op,
    Ref,
    TtfsError,
    Type,
    bounds_of,
    check_stage,
    codes,
    is_integer,
)  # fmt: skip
from ttfsc.passes.calibrate import Observe, calibrate
from ttfsc.passes.compensate import MAX_INPUTS, compensated
from ttfsc.passes.contest import Candidate, best_of
from ttfsc.passes.grid import Branch, GridError, Rounded, joined
from ttfsc.passes.ranges import Method, option_faults
from ttfsc.passes.rewrite import Pool, Reals, SynapseOp, free_name, reals, retyped, source_of, synapses_into
from ttfsc.passes.sums import Sum, sums_of
from ttfsc.passes.thresholds import Ints, constants_of, real_constants, shrunk, small_ints, table_of, whole_constants
from ttfsc.passes.twin import Twin, followable, moments
from ttfsc.passes.windows import Windows

log = logging.getLogger(__name__)
DEFAULT_BITS = 4
Choice = Literal["max", "percentile", "mse", "auto"]


def quantize(
    net: Net,
    *,
    bits: int = 0,
    ticks: int = 0,
    method: Choice = "mse",
    percentile: float = 99.9,
    nearest: bool = False,
    compensate: bool = False,
    correct: bool = False,
    calibration: Array | None = None,
    labels: Array | None = None,
    observe: Observe | None = None,
) -> Net:
    """The integer net.

    Args:
        net: canonical. Ranges that are missing are found by `calibrate` first, with the same options.
        bits: width of weights, 2..8; 0 = as trained, 4 where a layer was not.
        ticks: T, 2..64; 0 = as trained, else the one T that other layers were trained for, else 16.
        method: how free weight steps (and missing ranges) are chosen: max, percentile, mse; auto tries several, with
            nearest, compensate and correct, and keeps what answers best on the samples (`ttfsc.passes.contest`).
        percentile: for method=percentile.
        nearest: layers of `hold` synapses that were not trained for their ticks round S / Theta to the nearest tick,
            not down: thresholds half a tick lower, half the error. Trained layers stay as trained.
        compensate: round weights that have no grid so that the sums of sample inputs stay (kernel hold).
        correct: biases of layers without a grid make up for the mean error on sample inputs (kernel hold).
        calibration: x [N, *input shape], for missing ranges, compensate, correct and auto.
        labels: [N], of the samples, by which auto judges; without them it asks for the source's answers.
        observe: who shows what missing ranges are chosen from (see `calibrate`).

    Raises:
        TtfsError: TTFS016 for bad options and for bits or ticks other than a layer was trained with; TTFS003 for
            weights off their trained grid; TTFS007 for branches of a sum that do not fit 8 bits; TTFS005 for a `ramp`
            layer whose input has another T; TTFS018 for missing ranges; TTFS006 for a net that is not canonical.
    """
    plain: Method = "mse" if method == "auto" else method
    faults = [*option_faults("quantize", plain, percentile, ticks, bits), *_conflicts(net, bits, ticks)]
    if faults:
        raise TtfsError(faults)
    if is_integer(net):
        return net
    if method == "auto":
        if calibration is None:
            raise TtfsError.one(codes.CALIBRATION, _NO_SAMPLES.format("method=auto needs"), loc=Loc("quantize"))

        def make(candidate: Candidate, x: Array) -> Net:
            careful = candidate.careful
            return quantize(
                net, bits=bits, ticks=ticks, method=candidate.method, percentile=candidate.percentile, nearest=careful,
                compensate=careful, correct=careful, calibration=x, observe=observe,
            )  # fmt: skip

        return best_of(net, calibration, labels, make)
    ranged = calibrate(
        net, method=method, percentile=percentile, ticks=ticks, nearest=nearest, calibration=calibration,
        observe=observe,
    )  # fmt: skip
    work = _Work(check_stage(ranged, "canonical"), bits, ticks, nearest=nearest)
    work.choose(method, percentile)
    if compensate or correct:
        if calibration is None:
            fact = _NO_SAMPLES.format("compensate and correct need")
            raise TtfsError.one(codes.CALIBRATION, fact, loc=Loc("quantize"))
        if followable(work.net):
            work.refine(calibration, compensate=compensate, correct=correct)
        else:
            log.info("compensate and correct are for windowed nets of kernel hold; this one is left as it is")
    return work.integer()


_NO_SAMPLES = "{} sample inputs: give some (--calib X.npz, or calibration=x)"


def _conflicts(net: Net, bits: int, ticks: int) -> list[Fault]:
    """Layers trained (or quantised before) with other numbers than are asked for."""
    done, faults = is_integer(net), list[Fault]()
    for op in net.ops:
        if isinstance(op, Conv2d | Dense) and bits and op.bits and op.bits != bits:
            what = "is already quantised to" if done else "was trained with"
            fact = f"{what} {op.bits} bits, but bits={bits} is asked for: leave bits out, or start from float weights"
            faults.append(Fault(codes.OPTION, op.loc, op.subject, fact))
        if isinstance(op, Fire):
            window = Windows.fixed(net, op, done=done)
            if ticks and window and window != ticks:
                fact = (
                    f"has {window} ticks of its own, ticks={ticks} is asked for: leave ticks out, or train for {ticks}"
                )
                faults.append(Fault(codes.OPTION, op.loc, op.subject, fact))
    return faults


class _Work:
    """One net on its way to integers."""

    def __init__(self, net: Net, bits: int, ticks: int, *, nearest: bool) -> None:
        self.net, self.bits, self.nearest = net, bits, nearest
        self.windows = Windows(net, ticks)
        self.sums = list[Sum]()
        self.pool = Pool(net)
        self.units = dict[str, Reals]()  # by synapse op: [C] or [1]
        self.rounded = dict[str, Rounded]()
        self.divisible = {x for op in net.ops if isinstance(op, Add) for x in op.xs}
        self.kept = dict[str, tuple[Ints, Ints]]()  # bias and drift that stay on the synapse

    def choose(self, method: Method, percentile: float) -> None:
        """Units and integers of all weights, sum by sum. Raises TtfsError."""
        faults = self.windows.faults()
        self.sums = sums_of(self.net)
        for part in self.sums:
            branches = [self.branch(op) for op in part.synapses]
            try:
                unit, rounded = joined(
                    branches, per_tensor=part.one_unit, method=method, percentile=percentile, divisible=self.divisible
                )
            except GridError as e:
                faults += e.faults
                continue
            self.rounded |= rounded
            self.units |= {op.name: unit for op in part.synapses}
        if faults:
            raise TtfsError(faults)

    def refine(self, calibration: Array, *, compensate: bool, correct: bool) -> None:
        """Better integers and biases for weights without a grid, layer by layer, from sample inputs."""
        part_of = {op.name: part for part in self.sums for op in part.synapses}
        ticks = {op.name: self.windows[op.name] for op in self.net.ops if op.name in self.windows}
        early = {op.name: self.early(op) for op in self.net.ops if isinstance(op, Fire)}
        twin, ops, arrays = Twin(self.net, calibration, ticks, early), list[Op](), dict[Const, Array]()
        for op in self.net.ops:
            new: Op = op
            if isinstance(op, Conv2d | Dense):
                made = self.rounded[op.name]
                if compensate and op.step is None and not made.more and made.w[0].size <= MAX_INPUTS:
                    self.compensate(op, part_of[op.name], twin)
                unit = self.units[op.name] / self.branch(op).in_unit
                total = self.rounded[op.name].total
                twin.settle(op, total * unit.reshape(-1, *[1] * (total.ndim - 1)))
                if correct and op.step is None:
                    bias, _ = real_constants(self.net, op)
                    lag = twin.caught_up(op.name)
                    const = Const(free_name(self.net.arrays, f"{op.name}.corrected"))
                    arrays[const] = bias + (lag if bias.ndim == 1 else lag.reshape(-1, *[1] * (bias.ndim - 1)))
                    new = replace(op, bias=const)
            elif not isinstance(op, Decode):
                twin.step(op)
            ops.append(new)
        self.net = self.net.with_ops(ops, arrays)
        self.pool = Pool(self.net)

    def compensate(self, op: SynapseOp, part: Sum, twin: Twin) -> None:
        """Integers of one synapse; its step too, where it shares it with no other branch."""
        made, in_unit = self.rounded[op.name], self.branch(op).in_unit
        w = reals(self.net.arrays, op.w)
        step = np.broadcast_to(self.units[op.name] / in_unit, (len(w),)).copy()
        alone = len(part.synapses) == 1
        seen = moments(op, twin.coarse[op.x], w.shape)
        rows, steps = compensated(
            w.reshape(len(w), -1), seen, step, made.bits, search=alone, per_tensor=part.one_unit
        )  # fmt: skip
        self.rounded[op.name] = Rounded(rows.reshape(w.shape).astype(np.int8), made.bits)
        if alone:
            self.units[op.name] = steps[: 1 if part.one_unit else None] * in_unit

    def early(self, op: Fire) -> float:
        """By how many ticks thresholds fall sooner: ticks round to the nearest, trained ones as trained."""
        real = self.net.by_name[op.name]
        assert isinstance(real, Fire)
        holds = all(s.kernel == "hold" for s in synapses_into(self.net, op.v))
        return 0.5 if self.nearest and holds and not real.ticks else 0.0

    def integer(self) -> Net:
        """The integer net, from what was chosen."""
        for part in self.sums:
            for op in part.synapses:
                if part.compared or op.kernel == "leak":
                    current = self.net.by_name[op.name]
                    assert isinstance(current, Conv2d | Dense)
                    self.kept[op.name] = whole_constants(
                        self.net, current, self.units[op.name], part.ticks(self.windows)
                    )  # fmt: skip
        bare = self.rebuilt({})
        return self.rebuilt(bounds_of(bare))

    def branch(self, op: SynapseOp) -> Branch:
        source = source_of(self.net, op.x)
        if isinstance(source, Input) and isinstance(source.type, Analog):
            in_unit = source.scale
        else:
            in_unit = 1.0 if op.kernel in ("step", "leak") else self.windows.unit(source)
        step = None if op.step is None else reals(self.net.arrays, op.step)
        return Branch(op, reals(self.net.arrays, op.w), step, in_unit, op.bits or self.bits or DEFAULT_BITS)

    def rebuilt(self, bounds: dict[str, Bounds]) -> Net:
        """The integer net; without bounds its fires have no tables yet."""
        types, ops = dict[str, Type](), list[Op]()
        names = dict[Ref, tuple[Ref, ...]]()  # of a branch that became several synapses

        def add(op: Op) -> None:
            op = retyped(op, types, self.pool)
            types[op.name] = op.type
            ops.append(op)

        for op in self.net.ops:
            op = self.windows.stretched(op)
            match op:
                case Conv2d() | Dense():
                    first, *others = self.synapses(op)
                    names[Ref(op.name)] = tuple(Ref(s.name) for s in (first, *others))
                    for other in others:
                        add(other)
                    op = first
                case Add():
                    op = replace(op, xs=tuple(name for x in op.xs for name in names.get(x, (x,))))
                case Fire():
                    op = replace(op, ticks=0, theta=None)
                    if bounds:
                        op = self.fire(op, bounds[op.v])
                case _:
                    pass
            add(op)
        return self.net.with_ops(ops, self.pool.changes)

    def synapses(self, op: SynapseOp) -> list[SynapseOp]:
        """The integer synapse; several where 8 bits do not hold its weights."""
        made = self.rounded[op.name]
        bias = drift = None
        if op.name in self.kept:
            whole = self.kept[op.name]
            if op.bias is not None:
                bias = self.pool.put(op, op.bias, small_ints(whole[0]))
            if op.drift is not None:
                drift = self.pool.put(op, op.drift, small_ints(whole[1]))
        first = replace(op, w=self.pool.put(op, op.w, made.w), bits=made.bits, step=None, bias=bias, drift=drift)
        found = [first]
        for i, w in enumerate(made.more):
            const = self.pool.put(op, f"{op.w}.more{i}", w)
            found.append(
                replace(first, name=free_name(self.net.by_name, f"{op.name}.more{i}"), w=const, bias=None, drift=None)
            )
        return found

    def fire(self, op: Fire, bounds: Bounds) -> Fire:
        """The neuron with its table. `op` has its integer window; range and constants are the real net's."""
        real = self.net.by_name[op.name]
        assert isinstance(real, Fire) and real.theta is not None
        shape, ticks = op.type.shape, self.windows[op.name]
        constants = constants_of(self.net, op.v, self.units, self.kept)
        theta = reals(self.net.arrays, real.theta)
        table = table_of(theta, constants, ticks, streaming=self.windows.streams(op), early=self.early(op))
        return replace(op, theta=self.pool.put(real, real.theta, shrunk(table, shape, *bounds.membrane)))
