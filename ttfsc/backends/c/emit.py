"""Net -> files of the C target. Nothing is written here; the same net gives the same bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttfsc.backends.c.cgen import SIZES
from ttfsc.backends.c.kernels import texts
from ttfsc.backends.c.lower import BLOB_FROM, lower
from ttfsc.backends.c.plan import Plan
from ttfsc.backends.c.render import render
from ttfsc.backends.c.view import Cost, View, cost_of, described
from ttfsc.ir import Analog, Array, Net, check_input, run

SAMPLES = 4  # of the known-answer test
EXPECTED_BYTES = 1 << 20  # of expected spikes in the known-answer test: large nets get fewer samples


@dataclass(frozen=True, eq=False, slots=True)
class KnownAnswers:
    """Inputs [N, inputs] and what the reference meaning says: spikes [N, trace], scores [N, classes], labels [N]."""

    x: Array
    spikes: Array
    scores: Array
    labels: Array


def emit(
    net: Net,
    *,
    samples: Array | None = None,
    name: str | None = None,
    blob_from: int = BLOB_FROM,
    cpu: str = "generic",
    threads: int = 1,
) -> dict[str, bytes]:
    """C99 for a quantized net: header, source, weights, known-answer test, host program, Makefile, CMakeLists.txt.

    samples: inputs [N, *input shape] of the known-answer test, the first few are taken; random ones if None.
    name: prefix of every symbol and file (made an identifier); the net's name if None.
    blob_from: bytes of packed weights from which they become a binary file, linked or loaded, instead of arrays.
    cpu: what to plan for, a name of `CPUS`: cortex-m takes the least memory, the others are made for speed, c99
    without GNU vectors.
    threads: pieces that a layer is cut into at most, for the caller's threads; each takes scratch memory of its own.
    Raises TtfsError: wrong stage, an unknown cpu, samples that do not fit the input, a width that does not hold,
    something this target cannot express.
    """
    plan = lower(net, name=name, blob_from=blob_from, cpu=cpu, threads=threads)
    known, p, context = known_answers(net, plan, samples), plan.name, _context(plan)
    return _model(plan) | {
        f"{p}_trace.h": render("trace.h.j2", **context),
        f"{p}_selftest.c": render("selftest.c.j2", test=known, count=len(known.x), **context),
        f"{p}_main.c": render("main.c.j2", **context),
        "Makefile": render("Makefile.j2", **context),
        "CMakeLists.txt": render("CMakeLists.txt.j2", **context),
    }


def emit_model(net: Net, *, cpu: str) -> dict[str, bytes]:
    """What the host engine compiles: header, source, weights as a binary, model.json. Errors as `emit`."""
    return _model(lower(net, blob_from=0, cpu=cpu))


def _model(plan: Plan) -> dict[str, bytes]:
    p, context = plan.name, _context(plan)
    steps = [one for step in plan.steps for one in context["v"].printed(step)]
    kernels = texts(plan.instances, p, vectors=plan.vectors)
    files = {
        f"{p}.h": render("model.h.j2", **context),
        f"{p}.c": render("model.c.j2", steps=steps, kernels=kernels, **context),
        "model.json": described(plan),
    }
    if plan.blob:
        files[f"{p}_weights.S"] = render("weights.S.j2", **context)
        files[f"{p}_weights.bin"] = blob(plan)
    if plan.threads > 1:
        files[f"{p}_openmp.h"] = render("threads.h.j2", **context)
        files[f"{p}_openmp.c"] = render("threads.c.j2", **context)
    return files


def _context(plan: Plan) -> dict[str, Any]:
    p = plan.name
    return {"plan": plan, "p": p, "P": p.upper(), "v": View(plan), "cost": cost_of(plan), "sizes": SIZES}


def cost(net: Net, *, cpu: str = "generic") -> Cost:
    """ROM and RAM of a quantized net in C, in bytes."""
    return cost_of(lower(net, cpu=cpu))


def known_answers(net: Net, plan: Plan, samples: Array | None) -> KnownAnswers:
    """A few inputs and everything the reference meaning answers to them."""
    count = max(1, min(SAMPLES, EXPECTED_BYTES // max(plan.trace_len, 1)))
    if samples is None:
        t = net.input.type
        low, high = (t.low, t.high) if isinstance(t, Analog) else (plan.input.low, plan.input.high)
        x = np.random.default_rng(0).integers(low, high + 1, (count, *t.shape))
    else:
        check_input(net, samples)
        x = samples[:count]
    result = run(net, x)
    spikes = [result.spikes[t.name].reshape(len(x), -1) for t in plan.traced]
    none = np.zeros((len(x), 1), np.uint8)  # C has no empty arrays
    return KnownAnswers(
        x.reshape(len(x), -1).astype(np.int64),
        np.concatenate(spikes, axis=1) if spikes else none,
        result.scores.astype(np.int64),
        result.labels,
    )


def blob(plan: Plan) -> bytes:
    """All weights, each op's from its offset on."""
    found = bytearray(plan.weight_bytes)
    for w in plan.weights:
        found[w.offset : w.offset + w.packed.data.size] = w.packed.data.tobytes()
    return bytes(found)
