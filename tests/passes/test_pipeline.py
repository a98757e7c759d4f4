"""The pass manager: text both ways, all mistakes at once, whose fault it was."""

import inspect
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import ttfsc.passes
from tests.passes.nets import Maker
from tests.strategies import inputs_for, real_nets
from ttfsc import pipeline
from ttfsc.hardware import load_chip
from ttfsc.ir import Conv2d, Dense, Fire, Net, TtfsError, codes, is_integer, run, show, stage_faults, verify
from ttfsc.passes import PASSES
from ttfsc.pipeline import Context, InternalError, Pipeline, Step, default_pipeline, list_passes, pass_of


def small() -> tuple[Maker, Net]:
    m = Maker((2, 6, 6))
    a = m.fire("a", m.norm("n", m.conv("c", "in", 4, 3, pad=(1,) * 4)))
    net = m.answer(m.dense("d", m.flatten("f", m.avgpool("p", m.identity("i", a))), 3, bias=m.rng.normal(size=3)))
    return m, net


def messages(text: str) -> list[str]:
    with pytest.raises(TtfsError) as e:
        Pipeline.parse(text)
    assert {f.code for f in e.value.faults} == {codes.OPTION}
    return [str(f).removeprefix("pipeline: error[TTFS016]: ") for f in e.value.faults]


# Text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fold-avgpool", "fold-avgpool"),
        (" drop-identity , quantize{ bits = 4 , ticks=16 } ", "drop-identity,quantize{bits=4,ticks=16}"),
        ("quantize{percentile=99.5,method=max}", "quantize{percentile=99.5,method=max}"),
        ("quantize{}", "quantize"),
        ("quantize{percentile=1e2}", "quantize{percentile=100}"),
    ],
)
def test_text_both_ways(text: str, shown: str) -> None:
    assert str(Pipeline.parse(text)) == shown
    assert Pipeline.parse(shown) == Pipeline.parse(text)


@given(
    st.lists(
        st.sampled_from(list_passes()).flatmap(
            lambda one: (
                st.dictionaries(st.sampled_from(one.options), st.integers(2, 8), max_size=len(one.options)).map(
                    lambda given: Step(one.name, tuple((o.name, _value(o, n)) for o, n in given.items()))
                )
                if one.options
                else st.just(Step(one.name))
            )
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=50)
def test_any_pipeline_survives_its_text(steps: list[Step]) -> None:
    assert Pipeline.parse(str(Pipeline(tuple(steps)))) == Pipeline(tuple(steps))


def _value(option: pipeline.Option, n: int) -> pipeline.Value:
    if option.words:
        return option.words[n % len(option.words)]
    return {int: n, float: n + 0.25, bool: n % 2 == 0, str: f"w{n}"}[option.kind]


def test_every_mistake_at_once() -> None:
    assert messages("fold-avgpol,quantize{bit=4,ticks=many,method=best,ticks=3,percentile},nonsense,calibrate{x=}") == [
        "unknown pass: fold-avgpol; did you mean fold-avgpool?",
        "unknown option of quantize: bit; did you mean bits?",
        "quantize: ticks=many must be a whole number",
        "quantize: method=best must be max or percentile or mse or auto",
        "quantize: ticks is given twice",
        "quantize: 'percentile' must be option=value",
        f"unknown pass: nonsense; there are {', '.join(PASSES)}",
        "unknown option of calibrate: x; there are method, percentile, ticks, nearest",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: name at least one pass, such as fold-avgpool"),
        ("quantize{bits=4", "cannot read 'quantize{bits=4'; passes look like fold-avgpool,quantize{bits=4,ticks=16}"),
        ("route place", "cannot read 'route place'; passes look like fold-avgpool,quantize{bits=4,ticks=16}"),
        ("route,,place", "cannot read ',place'; passes look like fold-avgpool,quantize{bits=4,ticks=16}"),
        ("route,", "ends in a comma"),
        ("route{to=1}", "unknown option of route: to; there are delivery, order, pool"),
        ("place{}}", "cannot read 'place{}}'; passes look like fold-avgpool,quantize{bits=4,ticks=16}"),
    ],
)
def test_unreadable_text(text: str, message: str) -> None:
    assert messages(text) == [message]


# Registry


def test_every_pass_is_registered_and_every_name_resolves() -> None:
    for name, target in PASSES.items():
        module, function = target.split(":")
        assert function == name.replace("-", "_")
        assert module == f"ttfsc.passes.{function}"
        assert getattr(ttfsc.passes, function) is getattr(import_module(module), function)
    folder = Path(inspect.getfile(ttfsc.passes)).parent
    helpers = {"__init__", "rewrite", "ranges", "grid", "thresholds", "windows", "sums"}
    helpers |= {"twin", "compensate", "contest", "curve", "destinations", "flow", "limits", "place_kernel", "search"}
    helpers |= {"least", "share", "tiles", "warm"}
    files = {path.stem for path in folder.glob("*.py")} - helpers
    assert files == {name.replace("-", "_") for name in PASSES}


def test_passes_say_what_they_do() -> None:
    for one in list_passes():
        assert one.summary.endswith("."), one.name
        assert Pipeline.parse(one.name).steps == (Step(one.name),)
    usages = {one.name: one.usage for one in list_passes()}
    assert usages["quantize"] == (
        "quantize{bits=0,ticks=0,method=max|percentile|mse|auto,percentile=99.9,nearest=false,compensate=false,"
        "correct=false}"
    )
    assert usages["fold-avgpool"] == "fold-avgpool"


def test_importing_needs_no_framework() -> None:
    code = "import sys, ttfsc.pipeline; print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Running


def test_default_pipeline_reaches_every_stage() -> None:
    m, net = small()
    x = m.pixels(30)
    seen = list[str]()
    text = default_pipeline(bits=8, ticks=32, method="max")
    mapped = Pipeline.parse(text).run(
        net, Context(x, load_chip("canmore-22nm")), after=lambda step, result, seconds: seen.append(step)
    )
    assert ",".join(seen) == text
    assert not stage_faults(mapped, "mapped")
    short = Pipeline.parse(default_pipeline(bits=8, ticks=32, method="max", partition=None)).run(net, Context(x))
    assert not stage_faults(short, "quantized")
    assert short == mapped.with_map(None)
    assert (run(short, x).labels == run(net, x).labels).mean() > 0.8


def test_pieces_give_the_same_as_the_whole() -> None:
    m, net = small()
    context = Context(m.pixels(30))
    text = default_pipeline(partition=None)
    whole = Pipeline.parse(text).run(net, context)
    for step in Pipeline.parse(text).steps:
        net = Pipeline((step,)).run(net, context) if step.name != "fold-avgpool" else pass_of(step.name).function(net)
    assert net == whole


def test_ends_and_each_agree() -> None:
    m, net = small()
    text, context = default_pipeline(partition=None), Context(m.pixels(30))
    assert Pipeline.parse(text).run(net, context, verify="ends") == Pipeline.parse(text).run(net, context)


def test_a_quantised_net_passes_through() -> None:
    m, net = small()
    done = Pipeline.parse(default_pipeline(partition=None)).run(net, Context(m.pixels(30)))
    assert Pipeline.parse(default_pipeline(partition=None)).run(done) == done


def test_stages_are_checked_behind_the_last_pass_of_their_group() -> None:
    m = Maker()
    net = m.answer(m.norm("n", m.conv("c", "in", 2)))
    with pytest.raises(TtfsError, match="not allowed in a canonical net: run fold-batchnorm"):
        Pipeline.parse("fold-avgpool").run(net)
    Pipeline.parse("fold-avgpool,fold-batchnorm").run(net)
    Pipeline.parse("drop-identity").run(net)


def test_what_a_pass_needs_is_asked_for_before_anything_runs() -> None:
    _, net = small()
    ran = list[str]()
    with pytest.raises(TtfsError) as e:
        Pipeline.parse("drop-identity,partition").run(net, after=lambda step, result, seconds: ran.append(step))
    assert str(e.value) == "pipeline: error[TTFS016]: partition: needs a chip (--arch)"
    assert not ran


def test_a_users_error_stays_what_it_is() -> None:
    _, net = small()
    with pytest.raises(TtfsError) as e:
        Pipeline.parse("quantize{bits=9}").run(net)
    assert "bits=9 must be 2..8" in str(e.value)


def test_an_invalid_net_does_not_start() -> None:
    _, net = small()
    with pytest.raises(TtfsError, match="the last op must be a decode"):
        Pipeline.parse("drop-identity").run(net.with_ops(net.ops[:-1]))


def broken(kind: str) -> Any:
    def drop_identity(net: Net) -> Net:
        if kind == "raises":
            raise KeyError("nothing")
        return net.with_ops(net.ops[:2] + net.ops[3:])

    return drop_identity


@pytest.mark.parametrize("kind", ["raises", "invalid"])
def test_our_bugs_name_the_pass_and_those_before(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, net = small()
    monkeypatch.setattr(sys.modules["ttfsc.passes.drop_identity"], "drop_identity", broken(kind))
    pass_of.cache_clear()
    try:
        with pytest.raises(InternalError) as e:
            Pipeline.parse("fold-batchnorm,drop-identity").run(net)
    finally:
        monkeypatch.undo()
        pass_of.cache_clear()
    assert str(e.value).startswith("internal error in pass 'drop-identity' after [fold-batchnorm]: ")
    assert isinstance(e.value.__cause__, KeyError if kind == "raises" else TtfsError)


def untrained(net: Net) -> Net:
    """The same real weights without the grids and ticks of training."""
    free = [replace(op, step=None, bits=0) if isinstance(op, Conv2d | Dense) else op for op in net.ops]
    return net.with_ops(replace(op, ticks=0) if isinstance(op, Fire) else op for op in free)


@given(real_nets(), st.booleans(), st.sampled_from([0, 2, 5, 8]), st.sampled_from([0, 2, 7, 64]))
@settings(max_examples=60)
def test_any_real_net_becomes_an_integer_one_or_says_why(net: Net, trained: bool, bits: int, ticks: int) -> None:
    """Random nets through the whole pipeline: no internal error, no wrong stage; folding keeps the function."""
    x = inputs_for(net, 0, 8)
    if trained:
        bits = ticks = 0
    else:
        net = untrained(net)
    reasons = {codes.FOLD, codes.CALIBRATION}
    if trained:
        reasons |= {codes.ARRAY, codes.OPTION, codes.VALUE, codes.WINDOW}
    try:
        canonical = Pipeline.parse("drop-identity,fold-batchnorm,fold-avgpool").run(net)
        before, after = run(net, x), run(canonical, x)
        size = 1 + np.abs(before.scores).max()
        np.testing.assert_allclose(after.scores, before.scores, atol=1e-4 * size)
        integer = Pipeline.parse(default_pipeline(bits=bits, ticks=ticks, partition=None)).run(net, Context(x))
    except TtfsError as e:
        event(f"refused: {sorted({f.code for f in e.faults})}")
        assert {f.code for f in e.faults} <= reasons
        return
    event("compiled")
    assert is_integer(integer)
    assert not stage_faults(integer, "quantized")
    assert show(verify(integer))
    run(integer, x)
