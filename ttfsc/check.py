"""`ttfsc check`: what keeps a model from being compiled for a chip, all of it at once, and nothing written."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ttfsc.hardware import Chip, load_chip
from ttfsc.inputs import load_samples, random_samples, range_of_samples
from ttfsc.ir import Fault, Fire, Net, TtfsError, codes, layers_of
from ttfsc.models import Source, load_model
from ttfsc.pipeline import Context, Pipeline, default_pipeline

_RANDOM = 4  # inputs that stand in for samples: enough for thresholds of the right size
_CORES = ("synapse_bits_per_core", "axons_in", "accumulator_bits", "potential_bits", "mesh_width", "mesh_height")
_LIFTED = ((), _CORES, (*_CORES, "axons_out"))  # a limit hides those that are looked at behind it


def check_model(
    source: Source, arch: str, *, bits: int = 0, ticks: int = 0, partition: str = "tile", calib: Path | None = None
) -> None:
    """Import a model, quantise and map it, and print what fits.

    Without samples, ranges are those of a few random inputs: shapes, weights, axons, routes and places do not depend on
    them, widths of membranes to a bit or so. Raises TtfsError with every node that is not understood, else with every
    limit of the chip that is exceeded: cores cannot be counted before all nodes are understood.
    """
    chip = load_chip(arch)
    net = load_model(source if calib is None else replace(source, seen=range_of_samples(calib)))
    free = sum(isinstance(op, Fire) and op.theta is None for op in net.ops)
    print(
        f"{source.model}: every op is understood: {len(net.ops)} ops, input {net.input.type}, answer {net.answer.type}"
    )
    if free and calib is None:
        print(f"{free} layers have no trained range: compile needs sample inputs, --calib X.npz")
    samples = load_samples(calib, net) if calib is not None else random_samples(net, _RANDOM, 0)
    with _silent_passes(calib is None):
        quantised = default_pipeline(bits=bits, ticks=ticks, partition=None)
        net = Pipeline.parse(quantised).run(net, Context(calibration=samples.x), verify="ends")
    layers = layers_of(net)
    for layer in layers:
        print(f"  {layer.name:24} {'x'.join(map(str, layer.grid)):>16} {layer.size:>9} neurons")
    cores = _cores(net, chip, partition)
    print(f"{sum(layer.size for layer in layers)} neurons on {cores} cores of {chip.name}; no limit of it is exceeded")


def _cores(net: Net, chip: Chip, partition: str) -> int:
    """Cores of the mapped net. Raises TtfsError with every limit that is exceeded."""
    faults, count = list[Fault](), 0
    for lifted in _LIFTED:
        weaker = replace(chip, **dict.fromkeys(lifted))
        try:
            mapped = Pipeline.parse(f"partition{{scheme={partition}}},place,route").run(net, Context(chip=weaker))
            count = len(mapped.mapped.cores) if mapped.mapped else 0
            break
        except TtfsError as e:
            faults += [f for f in e.faults if f not in faults]
            if any(f.code != codes.CAPACITY for f in e.faults):
                break
    if faults:
        raise TtfsError(faults)
    return count


@contextmanager
def _silent_passes(silent: bool) -> Generator[None]:
    """Without what passes say about ranges, where these are of random inputs."""
    log = logging.getLogger("ttfsc.passes")
    before = log.level
    if silent:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
