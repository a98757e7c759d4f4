"""Where the time of a generated model goes: its source with a clock around every step."""

import ctypes
import json
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from ttfsc.backends.c.cgen import identifier
from ttfsc.ir import Array, Net

CLOCK = """
#include <time.h>
double bench_spent[{steps}];
static double bench_now(void)
{{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}}
"""


def layer_times(
    net: Net, files: dict[str, bytes], images: Array, flags: tuple[str, ...], rounds: int
) -> dict[str, float]:
    """Nanoseconds per image of every firing layer and the read-out: of the fastest round. One thread."""
    p = str(json.loads(files["model.json"])["name"])
    source, steps = _clocked(files[f"{p}.c"].decode(), p)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        (folder / "timed.c").write_text(source)
        weights = [f"{p}_weights.S"] if f"{p}_weights.S" in files else []
        command = ["cc", "-std=gnu99", "-shared", "-fPIC", *flags, "timed.c", *weights, "-o", "timed.so"]
        subprocess.run(command, cwd=folder, check=True)
        library = ctypes.CDLL(str(folder / "timed.so"))
        linked = [ctypes.c_void_p(ctypes.addressof(ctypes.c_uint8.in_dll(library, f"{p}_weights")))] if weights else []
        spent = (ctypes.c_double * len(steps)).in_dll(library, "bench_spent")
        state, scores, label = np.zeros(8 << 20, np.int32), np.zeros(1 << 16, np.int32), np.zeros(1, np.uint16)
        best = np.full(len(steps), np.inf)
        for _ in range(rounds):
            ctypes.memset(spent, 0, ctypes.sizeof(spent))
            for x in images:
                given = np.ascontiguousarray(x)
                arrays = [ctypes.c_void_p(a.ctypes.data) for a in (given, scores, label)]
                assert library[f"{p}_run"](ctypes.c_void_p(state.ctypes.data), *linked, *arrays) == 0
            best = np.minimum(best, np.array(spent) / len(images))
    names = {identifier(op.name): op.name for op in net.ops}
    return {names[step]: float(ns) for step, ns in zip(steps, best, strict=True) if step in names}


def _clocked(source: str, p: str) -> tuple[str, list[str]]:
    """The source with a clock around every step's call, and the steps' identifiers."""
    head, infer = source.split(f"static {p}_status_t {p}_infer(")
    steps = list[str]()

    def around(match: re.Match[str]) -> str:
        steps.append(match[2])
        return (
            f"    bench_began = bench_now(); {match[1]}; bench_spent[{len(steps) - 1}] += bench_now() - bench_began;\n"
        )

    infer = re.sub(rf"^    ({p}_do_(\w+)\(.*\));\n", around, infer, flags=re.M)
    infer = infer.replace("{\n", "{\n    double bench_began;\n", 1)
    clock = CLOCK.format(steps=len(steps))
    return f"{clock}{head}static {p}_status_t {p}_infer({infer}", steps
