"""Thousands of random layers in C against the interpreter, spike for spike, under several compilers and options.

    python tests/c/sweep.py [--layers 2000] [--seed 0] [--builds gcc-O3 ...] [--every] [--jobs 2]

Each net of forty layers is emitted for a small processor and for a large one, or in plain C99. Both go through one of
the sanitized builds, and one of the two through an optimised build, in turn; with --every both go through all. A
difference names the net (to be made again from its seed), the build and the layer.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
from sweep_nets import inputs, sweep_net, wide_net

from ttfsc.backends.c import emit, fast, pile, walk
from ttfsc.ir import Array, Net, Result, run

PROGRAM = Path(__file__).parent / "programs" / "sweep.c"
LAYERS = 40  # of a net
PILED = 12  # of one whose rows are piled up
SAMPLES = 6
CPUS = ("cortex-m", "generic")  # "c99" in place of the latter now and then
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g0")
CALLED = "-DM_INLINE=static"  # kernels are called, not inlined: a tenth of the time to compile

LISTS = "-DM_DOTS=0"  # no dot products of bytes, and for NARROW no wider vectors than all processors have
NARROW = (LISTS, "-DM_WIDE=0")
PAIRS = ("-DM_DOTS=1", "-DM_WIDE=1")  # both by AVX2; else the best that is there


@dataclass(frozen=True)
class Build:
    """A compiler and its options."""

    compiler: str
    flags: tuple[str, ...]


CHECKED = {
    "gcc-O0-sanitized": Build("gcc", ("-O0", CALLED, *SANITIZED)),
    "clang-O0-sanitized": Build("clang", ("-O0", CALLED, LISTS, *SANITIZED)),
}
OPTIMISED = {
    "gcc-O3": Build("gcc", ("-O3",)),
    "clang-O3": Build("clang", ("-O3", CALLED, *NARROW)),
    "gcc-O3-native": Build("gcc", ("-O3", "-march=native")),
    "clang-O3-native": Build("clang", ("-O3", "-march=native", *PAIRS, CALLED)),
    "gcc-O3-native-plain": Build("gcc", ("-O3", "-march=native", "-DM_PLAIN", CALLED)),
    "gcc-O3-sanitized": Build("gcc", ("-O3", *PAIRS, CALLED, *SANITIZED)),
}
BUILDS = CHECKED | OPTIMISED


@dataclass(frozen=True)
class Case:
    """One net for one processor: its files, its inputs, and what the interpreter says."""

    title: str
    files: dict[str, bytes]
    x: Array
    want: Result
    layers: int


def case(title: str, net: Net, cpu: str, seed: int, *, linked: bool) -> Case:
    x = inputs(net, seed, SAMPLES)
    files = emit(net, samples=x[:1], name="m", cpu=cpu, blob_from=0 if linked else 1 << 40)
    return Case(f"{title} for {cpu}", files, x, run(net, x), sum(op.mnemonic == "fire" for op in net.ops))


def cases(seed: int) -> list[Case]:
    """A net of forty layers for both kinds of processor."""
    net, cpus = sweep_net(seed, LAYERS), (CPUS[0], "c99") if seed % 8 == 1 else CPUS
    return [case(f"sweep_net({seed}, {LAYERS})", net, cpu, seed, linked=seed % 4 != 0) for cpu in cpus]


def wide_case(seed: int) -> Case:
    """A net of wide layers, with two weights in a byte: that is for large layers, but here small ones take it too."""
    usual = fast.HALF_FROM, pile.BYTES
    try:
        fast.HALF_FROM, pile.BYTES = 1, 256  # the latter: no rows are piled up
        return case(f"wide_net({seed})", wide_net(seed), "c99" if seed % 6 == 3 else "generic", seed, linked=True)
    finally:
        fast.HALF_FROM, pile.BYTES = usual


def free(*_: object, **__: object) -> float:
    return 0.0


def piled_case(seed: int) -> Case:
    """A net whose rows are piled up wherever they can be: other ways are cheaper for so small layers."""
    usual = walk.pile_cost
    try:
        walk.pile_cost = free
        return case(f"piled net of sweep_net({seed}, {PILED})", sweep_net(seed, PILED), "generic", seed, linked=False)
    finally:
        walk.pile_cost = usual


def check(one: Case, build: Build) -> str:
    """Empty, or what is wrong."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as name:
        folder = Path(name)
        for file, content in one.files.items():
            (folder / file).write_bytes(content)
        linked = ["m_weights.S"] if "m_weights.S" in one.files else []
        (folder / "sweep.c").write_text(f'#include "m.c"\n#define M_WEIGHTS {"m_weights," if linked else ""}\n')
        with (folder / "sweep.c").open("ab") as out:
            out.write(PROGRAM.read_bytes())
        command = [build.compiler, "-std=c99", *build.flags, "-o", "sweep", "sweep.c", *linked]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if made.returncode:
            return f"{one.title}: {' '.join(command)}: {made.stderr[:2000]}"
        facts = json.loads(one.files["model.json"])
        given = np.ascontiguousarray(one.x, facts["input"]["type"].removesuffix("_t")).tobytes()
        done = subprocess.run([str(folder / "sweep")], input=given, capture_output=True, check=False)
        if done.returncode:
            return f"{one.title}: exit code {done.returncode}: {done.stderr.decode(errors='replace')[:2000]}"
    return difference(one, facts, done.stdout)


def difference(one: Case, facts: dict[str, Any], said: bytes) -> str:
    layers, spike = facts["layers"], np.dtype(facts["spike_type"].removesuffix("_t"))
    trace = max(1, sum(layer[0].size for layer in one.want.spikes.values()))
    row = np.dtype([("trace", spike, trace), ("scores", np.int32, one.want.scores.shape[1]), ("label", np.uint16)])
    if len(said) != row.itemsize * len(one.x):
        return f"{one.title}: {len(said)} bytes instead of {row.itemsize * len(one.x)}"
    got = np.frombuffer(said, row)
    for layer in layers:
        want = one.want.spikes[layer["name"]].reshape(len(one.x), -1)
        if not np.array_equal(got["trace"][:, layer["offset"] : layer["offset"] + want.shape[1]], want):
            return f"{one.title}: layer %{layer['name']} differs"
    if not np.array_equal(got["scores"], one.want.scores) or not np.array_equal(got["label"], one.want.labels):
        return f"{one.title}: scores or labels differ"
    return ""


@dataclass(frozen=True)
class Found:
    """What one seed brought: layers, how often they were compiled, spikes, and what is wrong."""

    layers: int
    compiled: int
    spikes: int
    wrong: tuple[str, ...]


def sweep(seed: int, builds: tuple[str, ...], *, every: bool, wide: bool) -> Found:
    """One net of forty layers, and a wide one if asked for."""
    found = cases(seed)
    checked, optimised = ([b for b in builds if b in names] for names in (CHECKED, OPTIMISED))
    work = [(one, b) for one in found for b in builds]
    if not every:
        work = [(one, checked[seed % len(checked)]) for one in found if checked]
        work += [(found[seed % 2], optimised[seed // 2 % len(optimised)])] if optimised else []
    if wide:
        found += [wide_case(seed), piled_case(seed)]
        work += [(one, b) for one in found[-2:] for b in builds if every or b in ("gcc-O0-sanitized", "gcc-O3-native")]
        work += [(found[-1], b) for b in builds if not every and b in ("gcc-O3-native-plain", "clang-O3")]
    wrong = tuple(f"{build}: {text}" for one, build in work if (text := check(one, BUILDS[build])))
    spikes = sum(int((layer > 0).sum()) for one in found for layer in one.want.spikes.values())
    return Found(
        found[0].layers + sum(one.layers for one in found[len(CPUS) :]),
        sum(one.layers for one, _ in work),
        spikes,
        wrong,
    )


def installed(names: list[str]) -> tuple[str, ...]:
    """Those of the builds whose compiler is here; says which are left out."""
    left_out = [b for b in names if not which(BUILDS[b].compiler)]
    for b in left_out:
        print(f"{b}: left out, {BUILDS[b].compiler} is not installed")
    return tuple(b for b in names if b not in left_out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--builds", nargs="+", default=list(BUILDS), choices=list(BUILDS))
    parser.add_argument("--every", action="store_true", help="every net through every build")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    builds, began = installed(options.builds), time.perf_counter()
    seeds = range(options.seed, options.seed - (-options.layers // LAYERS))
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(sweep, s, builds, every=options.every, wide=s % 3 == 0) for s in seeds]
        found = [job.result() for job in jobs]
    wrong = [text for one in found for text in one.wrong]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    layers, compiled, spikes = (sum(getattr(one, key) for one in found) for key in ("layers", "compiled", "spikes"))
    print(
        f"{layers} random layers, {compiled} in all kernels and builds, {spikes} spikes: {len(wrong)} differ "
        f"({time.perf_counter() - began:.0f} s)"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
