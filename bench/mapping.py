"""What placements of VGG16 for CIFAR-10 cost on a core mesh, and how long they and the mapping files take.

    python bench/mapping.py                 the table of docs/mapping-format.md; ends with 1 if a count is unexpected
    python bench/mapping.py --anneal tiles  also: tiles annealed, for multicast, unicast, and pooled at the source
    ... --anneal shared | routers | memory  also: neighbouring layers on common cores; 4 cores at each router; at most
                                            128 KiB of kernels on a core
    python bench/mapping.py --objectives    also: each objective of annealing by all of them
    python bench/mapping.py --limits        also: partitions under a synapse memory per core
    python bench/mapping.py --growth        also: time and memory for VGG16s of 32x32 to 224x224 pixels, to 13,239 cores
    python bench/mapping.py --files         also: write, read and run the mapping files of a randomly weighted VGG16

Counting: every one of the 284,682 neurons sends 0.256 spikes (expected values, no sampling), image input excluded.
PYTHONPATH is the repository's root.
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

from bench.vgg import vgg
from ttfsc.backends import noc
from ttfsc.hardware import Chip, Figure, load_chip
from ttfsc.ir import Core, Net, layers_of, link_loads, run, sent_rates, traffic
from ttfsc.passes.flow import flow_of
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route
from ttfsc.passes.search import cost_of

RATE = 0.256


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


@dataclass(frozen=True)
class Row:
    """One annealed placement: what it searches for, where packets are pooled, at most so many hops."""

    objective: str
    pool: str
    limit: int


ANNEALED: dict[str, Sequence[Row]] = {
    "tiles": (
        Row("multicast", "target", 345_000), Row("unicast", "target", 530_000), Row("multicast", "source", 290_000),
    ),
    "shared": (Row("multicast", "target", 330_000), Row("multicast", "source", 279_000)),
    "routers": (Row("unicast", "target", 250_000), Row("multicast", "target", 155_000)),
    "memory": (Row("unicast", "target", 990_000), Row("multicast", "target", 450_000)),
}  # fmt: skip
ANNEALED_SECONDS = 240  # on 2 cores
SIDES = (32, 64, 128, 224)
GROWTH_MOVES = 5_000  # per core, fixed: time is to grow like the net
GROWTH_SECONDS, GROWTH_GIB = 900, 8.0


def mapped(net: Net, scheme: str, chip: Chip) -> Net:
    """Partitioned by scheme, placed row by row, routed."""
    return route(place(partition(net, scheme=scheme, chip=chip), scheme="row-major"))


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


def cut(kind: str, chip: Chip) -> tuple[Net, Chip]:
    """VGG16 in tiles, as the rows of `ANNEALED` want it, and the chip it is for."""
    if kind == "routers":
        chip = replace(chip, cores_per_router=Figure(4, "cores", "bench"))
    if kind != "memory":
        return partition(vgg(), scheme="tile", share="auto" if kind == "shared" else "", chip=chip), chip
    net = partition(vgg(), scheme="tile", chip=chip)
    tight = partition(vgg(dense=()), scheme="auto", chip=_small(chip, 128))
    assert net.mapped is not None and tight.mapped is not None
    slices = [core.slices for core in tight.mapped.cores if core.slices[0].layer.startswith("c")]
    slices += [core.slices for core in net.mapped.cores if not core.slices[0].layer.startswith("c")]  # exempt
    width, height = chip.mesh_for(len(slices))
    cores = tuple(Core(i, (i % width, i // width), some) for i, some in enumerate(slices))
    return net.with_map(replace(net.mapped, mesh=(width, height), cores=cores)), chip


def _small(chip: Chip, kib: int) -> Chip:
    return replace(chip, synapse_bits_per_core=Figure(8192.0 * kib, "bit", "bench"))


def annealed(chip: Chip, kind: str, restarts: int, seed: int) -> Iterator[tuple[str, bool]]:
    """Best of the restarts against the limits; the place pass itself reports the spread (logging)."""
    net, chip = cut(kind, chip)
    assert chip.e_sop and chip.e_hop and chip.e_static
    for row in ANNEALED[kind]:
        options: dict[str, Any] = {"objective": row.objective, "pool": row.pool, "restarts": restarts, "seed": seed}
        wall, cpu = time.perf_counter(), time.process_time()
        placed = place(net, scheme="anneal", chip=chip, **options)
        done = route(placed, pool="source" if row.pool == "source" else "target")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        got = hops(done, f"hops_{row.objective}")
        energy = (chip.e_sop.value * RATE * 284_682 + chip.e_hop.value * got) / 1e6 + chip.e_static.value
        loads = link_loads(done, sent_rates(done, {layer.name: RATE for layer in layers_of(done)}))
        line = f"{kind} annealed for {row.objective}, pooled at the {row.pool}: {got:,.0f} hops (at most {row.limit:,})"
        line += f", {energy:.1f} uJ; busiest link {loads.busiest:,.0f}; {wall:.0f} s, {cpu:.0f} s of processor"
        yield line, got <= row.limit and cpu <= 2 * ANNEALED_SECONDS


def objectives(chip: Chip, seed: int) -> Iterator[tuple[str, bool]]:
    """A short search for each objective, measured by all: each must be best at its own."""
    net, _ = cut("tiles", chip)
    assert net.mapped is not None
    layers, names = layers_of(net), ("multicast", "unicast", "latency", "busiest")
    flow = flow_of(layers, net.mapped.cores, {layer.name: RATE for layer in layers if layer.fires}, pooled=False)
    yield "annealed for" + "".join(f"{name:>14}" for name in names), True
    found = dict[str, list[float]]()
    for objective in names:
        options: dict[str, Any] = {"objective": objective, "restarts": 2, "moves": 10_000_000, "seed": seed}
        done = place(net, scheme="anneal", chip=chip, **options).mapped
        assert done is not None
        places = tuple(core.place for core in done.cores)
        found[objective] = [cost_of(flow, places, done.mesh, name) for name in names]
        yield f"{objective:12}" + "".join(f"{cost:14,.0f}" for cost in found[objective]), True
    yield "", all(min(found, key=lambda o: found[o][i]) == name for i, name in enumerate(names))


def limits(chip: Chip) -> Iterator[str]:
    """What a smaller synapse memory per core costs, along a Hilbert curve; dense layers, which need more, left out."""
    convolutions = vgg(dense=())
    for kib in (1024, 512, 256, 128, 64):
        tight = _small(chip, kib)
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
        tiles = partition(net, scheme="tile", chip=chip)
        assert tiles.mapped is not None
        cores = len(tiles.mapped.cores)
        done = route(place(tiles, scheme="anneal", restarts=1, moves=GROWTH_MOVES * cores, chip=chip), chip=chip)
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
    arguments.add_argument(
        "--anneal", choices=ANNEALED, action="append", default=[], help="also anneal such a partition"
    )
    arguments.add_argument("--objectives", action="store_true", help="also compare the objectives of annealing")
    arguments.add_argument("--restarts", type=int, default=4, help="of annealing (4)")
    arguments.add_argument("--seed", type=int, default=0, help="of annealing (0)")
    arguments.add_argument("--limits", action="store_true", help="also partition for small synapse memories")
    arguments.add_argument("--growth", action="store_true", help="also map ever larger nets")
    given = arguments.parse_args()
    logging.basicConfig(level=logging.INFO if given.anneal else logging.WARNING, format="    %(message)s")
    chip, good = load_chip("canmore-22nm"), True
    parts = [table(chip)]
    parts += [annealed(chip, kind, given.restarts, given.seed) for kind in given.anneal]
    parts += [objectives(chip, given.seed)] if given.objectives else []
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
