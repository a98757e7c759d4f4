"""Give every ReLU without a range one, from sample inputs; its readers' weights take the range in.

    %a = fire %v                         =>   %a = fire %v theta=@a.theta             (theta = the range R, [1])
    %u = conv2d %a w=@u.w step=@u.step        %u = conv2d %a w=@u.w step=@u.step      (both times R)

so values lie in (0, 1] and `%u` stays what it was wherever no value exceeds R. One range per layer, which commutes with
max pools, average pools and flatten on the way to the readers. Biases belong to the membrane and stay. Layers that have
a range (trained with ttfsc.nn, a clip in the source model) are left alone.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ttfsc.ir import (
    Array,
    BatchNorm,
    Conv2d,
    Dense,
    Fault,
    Fire,
    Net,
    Op,
    Spikes,
    TtfsError,
    codes,
    run_batches,
)  # fmt: skip
from ttfsc.passes.ranges import Histogram, Method, option_faults
from ttfsc.passes.rewrite import Pool, reals, source_of, synapses_into

log = logging.getLogger(__name__)
_BATCH_BYTES = 64 << 20  # of the spikes that one batch of samples leaves behind
Observe = Callable[[Net, Sequence[str], Array], Iterator[Mapping[str, Array]]]
"""Values [n, ...] of the named layers on samples [N, *input shape], batch by batch, in any order of axes."""


def calibrate(
    net: Net,
    *,
    method: Method = "mse",
    percentile: float = 99.9,
    ticks: int = 0,
    nearest: bool = False,
    calibration: Array | None = None,
    observe: Observe | None = None,
) -> Net:
    """The net with a range for every fire.

    Args:
        net: real-valued; batch norms folded.
        method: max, percentile or mse (see Histogram.range_of).
        percentile: of the positive values, for method=percentile.
        ticks: T that method=mse assumes where a layer was not trained for one; 0 is 16.
        nearest: method=mse assumes values rounded to the nearest tick (as `quantize{nearest=true}` does), not down.
        calibration: x [N, *input shape], integers as the net's input declares.
        observe: shows the layers' values on it; without it the net itself is evaluated.

    Raises:
        TtfsError: TTFS016 for a bad option; TTFS018 naming every layer whose range is missing when there are no
            samples, or cannot be moved into its readers; TTFS015 for samples that do not fit the input.
    """
    faults = option_faults("calibrate", method, percentile, ticks)
    unknown = [op for op in net.ops if isinstance(op, Fire) and op.theta is None]
    faults += [f for op in unknown for f in _obstacles(net, op)]
    if calibration is None:
        fact = "its range is unknown and there are no sample inputs: give some (--calib X.npz, or calibration=x)"
        faults += [Fault(codes.CALIBRATION, op.loc, op.subject, fact) for op in unknown]
    if faults:
        raise TtfsError(faults)
    if not unknown:
        return net
    assert calibration is not None
    seen = {op.name: Histogram() for op in unknown}
    for values in (observe or _evaluated)(net, list(seen), calibration):
        for name, histogram in seen.items():
            histogram.add(values[name])
    ranges = dict[str, float]()
    for op in unknown:
        ranges[op.name] = seen[op.name].range_of(
            method, percentile, op.ticks or ticks or 16, nearest=nearest and not op.ticks
        )
        if not seen[op.name].largest:
            log.warning("%s: %s: never fires on the sample inputs; its range is set to 1", op.loc, op.subject)
        log.info("%s: %s: range %g of at most %g", op.loc, op.subject, ranges[op.name], seen[op.name].largest)
    return _ranged(net, ranges)


def _obstacles(net: Net, op: Fire) -> Iterator[Fault]:
    """Why a range for this layer cannot come from its values alone."""
    if any(s.kernel == "ramp" for s in synapses_into(net, op.v)):
        fact = "a neuron with a rising membrane needs the theta it was trained with"
        yield Fault(codes.CALIBRATION, op.loc, op.subject, fact)
    for reader in net.ops:
        if isinstance(reader, Conv2d | Dense) and reader.kernel != "hold" and _reads(net, reader, op):
            fact = f"its range cannot move into {reader.subject}: kernel={reader.kernel} counts spikes; give it theta="
            yield Fault(codes.CALIBRATION, op.loc, op.subject, fact)
        if isinstance(reader, BatchNorm) and isinstance(reader.type, Spikes) and _reads(net, reader, op):
            yield Fault(codes.CALIBRATION, op.loc, op.subject, f"feeds {reader.subject}: run fold-batchnorm first")


def _reads(net: Net, reader: Conv2d | Dense | BatchNorm, op: Fire) -> bool:
    return isinstance(net.type_of(reader.x), Spikes) and source_of(net, reader.x) is op


def _evaluated(net: Net, names: Sequence[str], x: Array) -> Iterator[Mapping[str, Array]]:
    per_sample = 4 * sum(prod(net.type_of(name).shape) for name in names)
    for result in run_batches(net, x, keep=names, batch=max(1, min(256, _BATCH_BYTES // per_sample))):
        yield result.spikes


def _ranged(net: Net, ranges: dict[str, float]) -> Net:
    """The net with these ranges as thetas, and with their readers' weights multiplied."""
    pool, ops = Pool(net), list[Op]()
    for op in net.ops:
        if isinstance(op, Fire) and op.name in ranges:
            op = replace(op, theta=pool.put(op, f"{op.name}.theta", np.array([ranges[op.name]])))
        elif isinstance(op, Conv2d | Dense) and isinstance(net.type_of(op.x), Spikes):
            factor = ranges.get(source_of(net, op.x).name, 1.0)
            if factor != 1:
                step = None if op.step is None else pool.put(op, op.step, reals(net.arrays, op.step) * factor)
                op = replace(op, w=pool.put(op, op.w, reals(net.arrays, op.w) * factor), step=step)
        ops.append(op)
    return net.with_ops(ops, pool.changes)
