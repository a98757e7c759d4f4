"""The pass manager: pipelines as text, run pass by pass, verified in between.

    drop-identity,fold-batchnorm,fold-avgpool,quantize{bits=4,ticks=16},prove-widths

A pass is a function `Net -> Net`; its keyword arguments are its options, read from the signature. Some are never
written in the text but supplied from the `Context`: `calibration` (sample inputs), `chip` and the like. `ttfsc compile`
is such a text and nothing else.
"""

import inspect
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Literal, cast, get_args, get_origin

from ttfsc.hardware import Chip
from ttfsc.ir import Array, Fault, Loc, Mapped, Net, Stage, TtfsError, codes, stage_faults, verify
from ttfsc.passes import PASSES
from ttfsc.passes.calibrate import Observe

log = logging.getLogger(__name__)
Value = int | float | str | bool
After = Callable[[str, Net, float], None]  # the pass as it was written, its result, seconds

_HERE = Loc("pipeline")
_STEP = re.compile(r"\s*([A-Za-z0-9_-]+)\s*(?:\{([^{}]*)\})?\s*")
_SUPPLIED = {
    "calibration": "sample inputs (--calib X.npz)",
    "labels": "labels of the sample inputs (y in X.npz)",
    "chip": "a chip (--arch)",
    "earlier": "an earlier map (--start-from DIR)",
    "observe": "an evaluation of the source model",
}
_STAGES: tuple[tuple[Stage, str, tuple[str, ...]], ...] = (  # the pass that reaches a stage, and its companions
    ("canonical", "fold-avgpool", ("drop-identity", "fold-batchnorm", "fold-avgpool")),
    ("quantized", "prove-widths", ("calibrate", "quantize", "prove-widths")),
    ("mapped", "route", ("partition", "place", "route")),
)


@dataclass(frozen=True)
class Context:
    """What passes may ask for by keyword name."""

    calibration: Array | None = None  # x [N, *input shape], integers as the net's input declares
    chip: Chip | None = None
    labels: Array | None = None  # [N], of the samples, where known
    earlier: Mapped | None = None  # of the same net, to start a search from
    observe: Observe | None = None  # shows activations of the source on samples; None: the net itself is evaluated


class InternalError(Exception):
    """A bug of ours: which pass, what ran before it. The cause is chained."""


@dataclass(frozen=True)
class Option:
    """One keyword of a pass."""

    name: str
    kind: type  # int, float, str or bool
    default: Value
    words: tuple[str, ...] = ()  # the accepted ones, where it takes words only

    def read(self, text: str) -> Value | None:
        """The value that the text stands for; None if it stands for none."""
        try:
            if self.kind is bool:
                return {"true": True, "false": False}.get(text)
            if self.words:
                return text if text in self.words else None
            return cast("Value", self.kind(text))
        except ValueError:
            return None

    @property
    def wanted(self) -> str:
        """What messages say it takes."""
        return " or ".join(self.words) or {int: "a whole number", float: "a number", bool: "true or false"}.get(
            self.kind, "a word"
        )


@dataclass(frozen=True)
class Pass:
    """A registered pass, as its function declares it."""

    name: str
    function: Callable[..., Net]
    options: tuple[Option, ...]
    supplied: tuple[str, ...]  # context keywords it takes
    required: tuple[str, ...]  # those it cannot do without
    summary: str  # first line of its docstring

    @property
    def usage(self) -> str:
        """`quantize{bits=0,ticks=0}`: its options with their defaults."""
        options = ",".join(f"{o.name}={'|'.join(o.words) or _shown(o.default)}" for o in self.options)
        return f"{self.name}{{{options}}}" if options else self.name


@dataclass(frozen=True)
class Step:
    """One pass with the options given to it."""

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        inside = ",".join(f"{k}={_shown(v)}" for k, v in self.options)
        return f"{self.name}{{{inside}}}" if inside else self.name


@dataclass(frozen=True)
class Pipeline:
    """Steps in order; `str` gives the text that `parse` reads."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.steps))

    @classmethod
    def parse(cls, text: str) -> "Pipeline":
        """Read a pipeline. Raises TtfsError (TTFS016) with every unknown pass, unknown option and wrong value of it."""
        steps, faults = list[Step](), list[Fault]()
        for name, inside in _pieces(text, faults):
            if name not in PASSES:
                faults.append(_unknown("pass", name, list(PASSES)))
                continue
            steps.append(Step(name, tuple(_options(pass_of(name), inside, faults))))
        if not steps and not faults:
            faults.append(Fault(codes.OPTION, _HERE, "", "is empty: name at least one pass, such as fold-avgpool"))
        if faults:
            raise TtfsError(faults)
        return cls(tuple(steps))

    def run(
        self,
        net: Net,
        context: Context = Context(),
        *,
        after: After | None = None,
        verify: Literal["each", "ends"] = "each",
    ) -> Net:
        """The net after all steps.

        after: called after every step with its text, its result and the seconds it took (printing, timing, dumping).
        verify: each = the net is verified after every pass, ends = only the first and the last one.
        Raises TtfsError for what the user must change; InternalError, naming the pass, for a bug of ours.
        """
        self._check_context(context)
        net = _verified(net)
        done, names = list[str](), [step.name for step in self.steps]
        for i, step in enumerate(self.steps):
            start = time.perf_counter()
            last = i == len(self.steps) - 1
            result = _run_one(step, net, context, done, check=verify == "each" or last)
            seconds = time.perf_counter() - start
            changed = result.ops != net.ops or result.mapped != net.mapped or result.arrays != net.arrays
            log.info("%s: %s in %.3f s", step, "changed the net" if changed else "nothing to do", seconds)
            for stage, reached, group in _STAGES:
                if reached in names[: i + 1] and step.name in group and not set(group) & set(names[i + 1 :]):
                    faults = stage_faults(result, stage)
                    if faults:
                        raise TtfsError(faults)
            if after is not None:
                after(str(step), result, seconds)
            net = result
            done.append(step.name)
        return net

    def _check_context(self, context: Context) -> None:
        needs = {k: s.name for s in self.steps for k in pass_of(s.name).required if getattr(context, k) is None}
        if needs:
            raise TtfsError(Fault(codes.OPTION, _HERE, by, f"needs {_SUPPLIED[k]}") for k, by in needs.items())


def default_pipeline(
    *,
    bits: int = 0,
    ticks: int = 0,
    method: str = "mse",
    percentile: float = 99.9,
    nearest: bool = False,
    careful: bool = False,
    partition: str | None = "tile",
) -> str:
    """The pipeline of `ttfsc compile`, all the way to a mapped net; partition=None stops at the quantized one.

    careful: with nearest, compensate and correct; needs sample inputs, and leaves trained layers as they are.
    method: max, percentile, mse, or auto, which needs sample inputs and finds ranges itself.
    """
    free = f"method={method}" + (f",percentile={percentile:g}" if method == "percentile" else "")
    free += ",nearest=true" if (nearest or careful) and method != "auto" else ""
    more = ",compensate=true,correct=true" if careful and method != "auto" else ""
    steps = ["drop-identity", "fold-batchnorm", "fold-avgpool"]
    steps += [f"calibrate{{{free},ticks={ticks}}}"] if method != "auto" else []
    steps += [f"quantize{{bits={bits},ticks={ticks},{free}{more}}}", "prove-widths"]
    if partition is not None:
        steps += [f"partition{{scheme={partition}}}", "place", "route"]
    return ",".join(steps)


def list_passes() -> tuple[Pass, ...]:
    """Every pass with its options and the first line of its docstring."""
    return tuple(pass_of(name) for name in PASSES)


@cache
def pass_of(name: str) -> Pass:
    """A registered pass, imported now."""
    module, _, attribute = PASSES[name].partition(":")
    function = getattr(import_module(module), attribute)
    options, supplied, required = list[Option](), list[str](), list[str]()
    for p in list(inspect.signature(function, eval_str=True).parameters.values())[1:]:
        if p.name in _SUPPLIED:
            supplied.append(p.name)
            required += [p.name] if p.default is p.empty else []
            continue
        words = get_args(p.annotation) if get_origin(p.annotation) is Literal else ()
        kind = str if words else p.annotation
        assert kind in (int, float, str, bool) and p.default is not p.empty, (
            f"{name}: option {p.name} is {p.annotation}"
        )
        options.append(Option(p.name, kind, p.default, words))
    summary = (inspect.getdoc(function) or "").split("\n", 1)[0]
    return Pass(name, function, tuple(options), tuple(supplied), tuple(required), summary)


def _run_one(step: Step, net: Net, context: Context, done: list[str], *, check: bool) -> Net:
    one = pass_of(step.name)
    try:
        result = one.function(net, **dict(step.options), **{k: getattr(context, k) for k in one.supplied})
    except TtfsError:
        raise
    except Exception as e:
        raise InternalError(_blame(step, done, str(e) or type(e).__name__)) from e
    if check:
        try:
            return _verified(result)
        except TtfsError as e:
            raise InternalError(_blame(step, done, f"its result is no valid net:\n{e}")) from e
    return result


def _verified(net: Net) -> Net:
    return verify(net)


def _blame(step: Step, done: list[str], what: str) -> str:
    return f"internal error in pass '{step}' after [{', '.join(done)}]: {what}"


def _pieces(text: str, faults: list[Fault]) -> Iterator[tuple[str, str]]:
    """(name, text between the braces) of every step."""
    at = 0
    while at < len(text.rstrip()):
        found = _STEP.match(text, at)
        end = found.end() if found else at
        if not found or (end < len(text) and text[end] != ","):
            rest = text[at:].strip()
            fact = f"cannot read {rest[:40]!r}; passes look like fold-avgpool,quantize{{bits=4,ticks=16}}"
            faults.append(Fault(codes.OPTION, _HERE, "", fact))
            return
        yield found[1], found[2] or ""
        at = end + 1
    if text.rstrip().endswith(","):
        faults.append(Fault(codes.OPTION, _HERE, "", "ends in a comma"))


def _options(one: Pass, inside: str, faults: list[Fault]) -> Iterator[tuple[str, Value]]:
    known, seen = {o.name: o for o in one.options}, set[str]()
    for item in (part.strip() for part in inside.split(",")) if inside.strip() else ():
        key, equals, text = (s.strip() for s in item.partition("="))
        if not equals or not key:
            faults.append(Fault(codes.OPTION, _HERE, one.name, f"{item!r} must be option=value"))
        elif key not in known:
            faults.append(_unknown(f"option of {one.name}", key, list(known)))
        elif key in seen:
            faults.append(Fault(codes.OPTION, _HERE, one.name, f"{key} is given twice"))
        else:
            seen.add(key)
            value = known[key].read(text)
            if value is None:
                faults.append(Fault(codes.OPTION, _HERE, one.name, f"{key}={text} must be {known[key].wanted}"))
            else:
                yield key, value


def _unknown(what: str, name: str, known: list[str]) -> Fault:
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
    return Fault(codes.OPTION, _HERE, "", f"unknown {what}: {name}; {hint}")


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
