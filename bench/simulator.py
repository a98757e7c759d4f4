"""The simulator on VGG16 for CIFAR-10 and on the MNIST example: speed of both fidelities, interpreter = simulator,
and the packets of a VGG16 frame replayed in SANA-FE.

    python bench/simulator.py [--frames 3] [--no-sanafe] [--no-vgg16]

Fails (exit code 1) unless spike times are the interpreter's on every frame, `counts` takes at most 2 s per VGG16 frame
and MNIST runs at 200 frames per second or more, and SANA-FE counts the same. Both are judged by the CPU's clock: the
simulator computes on one thread, so that is the wall clock of a core that does nothing else.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np

from bench.vgg import vgg16
from ttfsc.backends import noc
from ttfsc.backends.noc.export_sanafe import sanafe_replay
from ttfsc.backends.noc.packets import Fabric
from ttfsc.backends.noc.sanafe import run_sanafe
from ttfsc.backends.noc.simulate import Simulation, Simulator
from ttfsc.compiler import Compiled, Options, compile_net, part_of
from ttfsc.inputs import Samples
from ttfsc.ir import Array, Net, TtfsError, codes, run
from ttfsc.models import Source, load_model

EXAMPLE = Path(__file__).parents[1] / "examples" / "mnist"
T = TypeVar("T")


def timed(what: str, frames: int, work: Callable[[], T]) -> tuple[T, float]:
    """The result, and seconds per frame by the CPU's clock; prints wall clock too."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"  {what}: {1000 * wall / frames:,.1f} ms per frame, {1000 * cpu / frames:,.1f} ms of CPU ({frames} frames)")
    return result, cpu / frames


def compiled(net: Net, calibration: Array | None = None, bits: int = 0, ticks: int = 0) -> Compiled:
    options = Options(targets=("noc",), bits=bits, ticks=ticks)
    return compile_net(
        net, options, calibration=None if calibration is None else Samples(calibration, None, "pixels"), check=False
    )


def check(what: str, holds: bool, failed: list[str]) -> None:
    print(f"  {'holds' if holds else 'FAILS'}: {what}")
    if not holds:
        failed.append(what)


def same(net: Net, x: Array, found: Simulation) -> bool:
    """Spike for spike, every layer, every frame."""
    want = run(net, x)
    equal = all(np.array_equal(spikes, found.result.spikes[name]) for name, spikes in want.spikes.items())
    return equal and np.array_equal(want.scores, found.result.scores)


def measure(title: str, made: Compiled, x: Array, most: float, cycles: int, failed: list[str]) -> Simulator:
    print(title)
    files = part_of(made.files, "noc")
    simulator, _ = timed("load, check and unpack", 1, lambda: Simulator(noc.load(files)))
    simulator.run(x[:1])
    found, seconds = timed("counts", len(x), lambda: simulator.run(x, keep=True))
    for kind, per_frame in found.frames.items():
        print(f"  {kind}: {sum(per_frame) / len(x):,.0f} per frame")
    check(f"at most {1000 * most:g} ms of CPU per frame", seconds <= most, failed)
    check(f"{title}: interpreter = simulator, spike for spike, on {len(x)} inputs", same(made.net, x, found), failed)
    found, _ = timed("cycle", cycles, lambda: simulator.run(x[:cycles], fidelity="cycle"))
    timing = found.timing
    assert timing is not None
    print(f"  routers, cycles per frame: alone {timing.serial}, all layers at work {timing.interval}")
    print(f"  waited {timing.waited / max(timing.deliveries, 1):.1f} cycles on average, {timing.longest} at most")
    return simulator


def replay(simulator: Simulator, x: Array, failed: list[str]) -> None:
    print("VGG16 frame replayed in SANA-FE")
    fabric = Fabric(simulator.image, "unicast")
    packets = fabric.packets(simulator.values(x, simulator.mesh.run(x)))
    hops = int(fabric.hops[packets.tree].sum())
    with TemporaryDirectory() as folder:
        files, _ = timed("export", 1, lambda: sanafe_replay(simulator, x))
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        try:
            got, _ = timed("SANA-FE", 1, lambda: run_sanafe(Path(folder)))
        except TtfsError as e:
            if any(fault.code != codes.TOOL for fault in e.faults):
                raise
            print(f"  not run: {e}")
            return
    print(f"  ours {len(packets):,} packets, {hops:,} hops; SANA-FE {got.packets:,} packets, {got.hops:,} hops")
    check("identical packets and hops", (got.packets, got.hops) == (len(packets), hops), failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--no-sanafe", action="store_true")
    parser.add_argument("--no-vgg16", action="store_true")
    options = parser.parse_args()
    failed = list[str]()
    digits = np.load(EXAMPLE / "digits.npz")["x"][:100]
    example = load_model(Source(f"{EXAMPLE / 'network.py'}:dta", weights=EXAMPLE / "dta.safetensors"))
    measure("MNIST example", compiled(example), digits, 1 / 200, 10, failed)
    if not options.no_vgg16:
        x = np.random.default_rng(1).integers(0, 256, (options.frames, 3, 32, 32), dtype=np.uint8)
        simulator = measure("VGG16", compiled(vgg16("ramp"), x, bits=4, ticks=10), x, 2.0, 1, failed)
        if not options.no_sanafe:
            replay(simulator, x[:1], failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
