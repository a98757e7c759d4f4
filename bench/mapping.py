"""What the fixed placements of VGG16 for CIFAR-10 cost on a core mesh, and how long its mapping files take.

    python bench/mapping.py             the table of docs/mapping-format.md; ends with 1 if a count is not as expected
    python bench/mapping.py --anneal    also: tiles annealed, for multicast, unicast, and pooled at the source
    python bench/mapping.py --limits    also: partitions under a synapse memory per core
    python bench/mapping.py --growth    also: time and memory for VGG16s of 32x32 to 224x224 pixels, 279 to 13,239 cores
    python bench/mapping.py --files     also: write, read and run the mapping files of a randomly weighted VGG16

Counting: every one of the 284,682 neurons sends 0.256 spikes (expected values, no sampling), image input excluded.
"""

import argparse
import logging
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ttfsc.backends import noc
from ttfsc.hardware import Chip, Figure, load_chip
from ttfsc.ir import (
    OPEN,
    Analog,
    Array,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Ref,
    layers_of,
    link_loads,
    run,
    sent_rates,
    traffic,
)
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route

RATE = 0.256
VGG16: Sequence[int] = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: max pool
DENSE: Sequence[int] = (4096, 4096)


@dataclass(frozen=True)
class Count:
    """Expected events per frame."""

    cores: int
    packets: int  # unicast
    unicast: int  # hops
    multicast: int


EXPECTED = {
    "feature": Count(279, 2_228_224, 19_134_415, 4_154_458),
    "tile": Count(279, 196_018, 1_487_241, 980_287),
}


def vgg(plan: Sequence[int] = VGG16, dense: Sequence[int] = DENSE, side: int = 32, seed: int | None = None) -> Net:
    """An integer VGG; weights and thresholds zero, which is all that mapping looks at, or random from a seed."""
    rng = None if seed is None else np.random.default_rng(seed)
    b, here, channels = Builder("vgg16", ticks=10), "in", 3
    b.add(Input(name="in", type=Analog((3, side, side), 0, 255), scale=1 / 255))

    def weights(*shape: int) -> Array:
        return np.zeros(shape, np.int8) if rng is None else rng.integers(-7, 8, shape, np.int8)

    def fire(name: str, fan_in: int) -> str:
        top = 0 if rng is None else round(2 * fan_in**0.5 * (300 if here == "in" else 10))
        table = -(-top * (10 - np.arange(10)) // 10)
        theta = b.array(f"{name}.theta", table[None].astype(np.int32))
        return b.add(Fire(name=name, type=OPEN, v=Ref(f"{name}.v"), theta=theta, width=32)).name

    for i, out in enumerate(plan):
        if not out:
            here = b.add(MaxPool(name=f"p{i}", type=OPEN, x=Ref(here), kernel=(2, 2), stride=(2, 2))).name
            side //= 2
            continue
        w, kernel = b.array(f"c{i}.w", weights(out, channels, 3, 3)), "hold" if here == "in" else "ramp"
        b.add(Conv2d(name=f"c{i}.v", type=OPEN, x=Ref(here), w=w, pad=(1, 1, 1, 1), bits=4, kernel=kernel))
        here, channels = fire(f"c{i}", 9 * channels), out
    here, size = b.add(Flatten(name="flat", type=OPEN, x=Ref(here))).name, channels * side * side
    for i, out in enumerate(dense):
        w = b.array(f"f{i}.w", weights(out, size))
        b.add(Dense(name=f"f{i}.v", type=OPEN, x=Ref(here), w=w, bits=4, kernel="ramp"))
        here, size = fire(f"f{i}", size), out
    b.add(Dense(name="out.v", type=OPEN, x=Ref(here), w=b.array("out.w", weights(10, size)), bits=4, kernel="ramp"))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("out.v"),), rule="membrane", width=32))
    return b.net()


# objective, pooled at the source, what is counted, at most so many hops
ANNEALED: Sequence[tuple[str, str, str, int]] = (
    ("multicast", "target", "hops_multicast", 345_000),
    ("unicast", "target", "hops_unicast", 530_000),
    ("multicast", "source", "hops_multicast", 290_000),
)
ANNEALED_SECONDS = 240  # on 2 cores
SIDES = (32, 64, 128, 224)
GROWTH_MOVES = 5_000  # per core, fixed: time is to grow like the net
GROWTH_SECONDS, GROWTH_GIB = 900, 8.0


def mapped(net: Net, scheme: str, chip: Chip) -> Net:
    """Partitioned by scheme, placed row by row, routed."""
    return route(place(partition(net, scheme=scheme, chip=chip)))


def count(net: Net, rate: float = RATE) -> Count:
    """Expected packets and hops when every neuron sends `rate` spikes."""
    assert net.mapped is not None
    maps = traffic(net).values()
    packets, unicast, multicast = (
        round(rate * sum(int(getattr(m, part).sum()) for m in maps))
        for part in ("packets_unicast", "hops_unicast", "hops_multicast")
    )
    return Count(len(net.mapped.cores), packets, unicast, multicast)


def table(chip: Chip) -> Iterator[tuple[str, bool]]:
    """Lines to print, and whether each is as expected."""
    net = vgg()
    spikes = RATE * 284_682
    assert chip.e_sop and chip.e_hop and chip.e_static
    yield f"VGG16 for CIFAR-10 at rate {RATE}: {spikes:,.0f} spikes per frame; row-major placement", True
    yield "partition  cores    packets  unicast hops       uJ  multicast hops      uJ      s", True
    for scheme, want in EXPECTED.items():
        start = time.perf_counter()
        done = mapped(net, scheme, chip)
        got, seconds = count(done), time.perf_counter() - start
        uni, multi = (
            (chip.e_sop.value * spikes + chip.e_hop.value * hops) / 1e6 + chip.e_static.value
            for hops in (got.unicast, got.multicast)
        )
        line = f"{scheme:10}{got.cores:6}{got.packets:11,}{got.unicast:14,}{uni:9.1f}{got.multicast:16,}{multi:8.1f}"
        line += f"{seconds:7.2f}"
        yield line if got == want else f"{line}  expected {want}", got == want
        assert done.mapped is not None
        rates = {name: np.full(m.hops_unicast.shape, RATE) for name, m in traffic(done).items()}
        loads = link_loads(done, rates)
        same = round(loads.total) == got.multicast
        yield f"{'':10}busiest link {loads.busiest:,.0f} packets per frame, mean {loads.total / loads.used:,.0f}", same
    yield "energy modelled, not measured: Eq. 12 with real delivery (docs/mapping-format.md)", True


def hops(net: Net, part: str) -> float:
    """Expected hops per frame of a routed net, pooled groups counted as what they send."""
    rates = sent_rates(net, {layer.name: RATE for layer in layers_of(net)})
    return sum(float((rates[name] * getattr(maps, part)).sum()) for name, maps in traffic(net).items())


def annealed(chip: Chip, restarts: int, seed: int) -> Iterator[tuple[str, bool]]:
    """Best of the restarts against the limits; the place pass itself reports the spread (logging)."""
    net = partition(vgg(), scheme="tile", chip=chip)
    assert chip.e_sop and chip.e_hop and chip.e_static
    for objective, pool, part, limit in ANNEALED:
        options: dict[str, Any] = {"objective": objective, "pool": pool, "restarts": restarts, "seed": seed}
        wall, cpu = time.perf_counter(), time.process_time()
        done = route(place(net, scheme="anneal", chip=chip, **options), pool="source" if pool == "source" else "target")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        got = hops(done, part)
        energy = (chip.e_sop.value * RATE * 284_682 + chip.e_hop.value * got) / 1e6 + chip.e_static.value
        loads = link_loads(done, sent_rates(done, {layer.name: RATE for layer in layers_of(done)}))
        line = (
            f"tile annealed for {objective}, pooled at the {pool}: {got:,.0f} hops (at most {limit:,}), {energy:.1f} uJ"
        )
        line += f"; busiest link {loads.busiest:,.0f}; {wall:.0f} s, {cpu:.0f} s of processor"
        yield line, got <= limit and cpu <= 2 * ANNEALED_SECONDS


def limits(chip: Chip) -> Iterator[str]:
    """What a smaller synapse memory per core costs, along a Hilbert curve; dense layers, which need more, left out."""
    convolutions = vgg(dense=())
    for kib in (1024, 512, 256, 128, 64):
        tight = replace(chip, synapse_bits_per_core=Figure(8192.0 * kib, "bit", "bench"))
        for scheme in ("hybrid", "auto"):
            done = route(place(partition(convolutions, scheme=scheme, chip=tight), scheme="hilbert", chip=tight))
            got = count(done)
            line = f"{kib:5} KiB {scheme:7}{got.cores:6} cores{got.packets:11,} unicast packets"
            yield f"{line}{got.multicast:12,} multicast hops"


def growth(chip: Chip) -> Iterator[tuple[str, bool]]:
    """Partition, anneal and route ever larger nets: seconds per core may grow threefold at most."""
    first = 0.0
    place(partition(vgg(), chip=chip), scheme="anneal", moves=1, restarts=1, chip=chip)  # compiled from here on
    for side in SIDES:
        net = vgg(side=side)
        wall, cpu = time.perf_counter(), time.process_time()
        cut = partition(net, scheme="tile", chip=chip)
        assert cut.mapped is not None
        cores = len(cut.mapped.cores)
        done = route(place(cut, scheme="anneal", restarts=1, moves=GROWTH_MOVES * cores, chip=chip), chip=chip)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        first = first or cpu / cores
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found = hops(done, "hops_multicast") / (RATE * sum(layer.size for layer in layers_of(done)))
        line = f"{side:4} pixels{cores:7,} cores: {wall:6.1f} s, {cpu:6.1f} s of processor, per core"
        line += f" {cpu / cores / first:.2f} times the first; {memory:.2f} GiB; {found:.2f} multicast hops per spike"
        yield line, cpu / cores <= 3 * first and cpu <= GROWTH_SECONDS and memory <= GROWTH_GIB


def files(chip: Chip) -> Iterator[str]:
    """Seconds and sizes of the mapping files of a randomly weighted VGG16."""
    net = vgg(seed=0)
    x = np.random.default_rng(1).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    want = run(net, x)
    for scheme in EXPECTED:
        start = time.perf_counter()
        written = noc.emit(mapped(net, scheme, chip), chip)
        wrote = time.perf_counter()
        image = noc.load(written)
        read = time.perf_counter()
        got = noc.run(image, x)
        ran = time.perf_counter()
        same = all(np.array_equal(got.spikes[name], want.spikes[name]) for name in want.spikes)
        rate = sum(int((s > 0).sum()) for s in want.spikes.values()) / (3 * 284_672)
        yield (
            f"{scheme:8} map and write {wrote - start:.1f} s, read {read - wrote:.1f} s, "
            f"run 3 inputs {ran - read:.1f} s; "
            f"json {len(written[noc.MAPPING]) / 1e6:.1f} MB, bin {len(written[noc.BINARY]) / 1e6:.1f} MB; "
            f"{rate:.3f} spikes per neuron; {'equal to' if same else 'DIFFERS FROM'} the interpreter"
        )
    yield f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--files", action="store_true", help="also write, read and run the mapping files")
    arguments.add_argument("--anneal", action="store_true", help="also anneal the tiles")
    arguments.add_argument("--restarts", type=int, default=4, help="of annealing (4)")
    arguments.add_argument("--seed", type=int, default=0, help="of annealing (0)")
    arguments.add_argument("--limits", action="store_true", help="also partition for small synapse memories")
    arguments.add_argument("--growth", action="store_true", help="also map ever larger nets")
    given = arguments.parse_args()
    logging.basicConfig(level=logging.INFO if given.anneal else logging.WARNING, format="    %(message)s")
    chip, good = load_chip("canmore-22nm"), True
    parts = [table(chip)]
    parts += [annealed(chip, given.restarts, given.seed)] if given.anneal else []
    parts += [growth(chip)] if given.growth else []
    for line, expected in (item for part in parts for item in part):
        print(line if expected else f"{line}  NOT AS EXPECTED", flush=True)
        good = good and expected
    for line in limits(chip) if given.limits else ():
        print(line, flush=True)
    if given.files:
        for line in files(chip):
            print(line)
            good = good and "DIFFERS" not in line
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
