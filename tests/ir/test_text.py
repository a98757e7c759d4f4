"""Text both ways, and text that means harm."""

import string
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import integer_nets, real_nets
from ttfsc.ir import (
    OPEN,
    OPS,
    Analog,
    Arrays,
    Box,
    Builder,
    Const,
    Conv2d,
    Core,
    Decode,
    Dense,
    Fault,
    Fire,
    Input,
    Loc,
    Mapped,
    Net,
    Op,
    Ref,
    Route,
    Scores,
    Slice,
    Spikes,
    TtfsError,
    codes,
    diff,
    faults_of,
    layers_of,
    parse,
    show,
)
from ttfsc.ir.fields import fields_of
from ttfsc.ir.parse import MAX_TEXT, parse_faults


def same(net: Net, *, hashes: bool) -> None:
    again = parse(show(net, hashes=hashes), net.arrays, source="a.ttfs")
    assert again == net
    assert [op.loc.origin for op in again.ops] == [op.loc.origin for op in net.ops]
    assert show(again, hashes=hashes) == show(net, hashes=hashes)
    assert not diff(again, net)


@given(st.one_of(integer_nets(), real_nets(sources=("analog", "encode", "spikes"))), st.booleans())
def test_nets_read_as_they_print(net: Net, hashes: bool) -> None:
    same(net, hashes=hashes)


@settings(max_examples=40)
@given(integer_nets(max_layers=1), st.data())
def test_origins_survive_whatever_they_are(net: Net, data: st.DataObject) -> None:
    names = st.text(st.characters(codec="utf-8"), max_size=12)
    ops = tuple(replace(op, loc=Loc("", 0, data.draw(names))) for op in net.ops)
    same(replace(net, ops=ops), hashes=False)


def test_an_origin_that_utf8_cannot_hold_still_prints() -> None:
    net = small()
    odd = replace(net, ops=(replace(net.ops[0], loc=Loc("", 0, "a\ud800b")), *net.ops[1:]))
    assert parse(show(odd), net.arrays).ops[0].loc.origin == "a?b"


def small() -> Net:
    b = Builder("n", ticks=3)
    b.add(Input(name="in", type=Analog((4,), -3, 3), scale=float(np.float64(0.1))))
    b.add(Dense(name="v", type=OPEN, x=Ref("in"), w=b.array("w", np.ones((2, 4), np.int8)), bits=4))
    b.add(Fire(name="s", type=OPEN, v=Ref("v"), theta=b.array("theta", np.array([[3, 2, 1]], np.int32))))
    b.add(Dense(name="o", type=OPEN, x=Ref("s"), w=b.array("o.w", np.ones((3, 2), np.int8)), bits=2))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o"),), rule="membrane"))
    return b.net()


def test_every_op_and_every_field_has_a_text_form() -> None:
    """Each op of OPS with each of its fields away from the default; types need not fit, so nothing is verified."""
    values: dict[str, Any] = {"ref": Ref("a"), "refs": (Ref("a"), Ref("b/c.d-e")), "const": Const("k.w")}
    values |= {"int": 3, "float": 1e-7}
    ops = list[Op]()
    for name, cls in OPS.items():
        fields: dict[str, Any] = {"name": name, "type": Scores((3, 4), 5, 9)}
        for f in fields_of(cls):
            values |= {"word": f.words[-1:] and f.words[-1], "sizes": (7,) * f.count, "bool": f.default is not True}
            fields[f.name] = values[f.kind]
            assert fields[f.name] != f.default
        ops.append(cls(**fields))
    net = Net("all", tuple(ops), Arrays({Const("k.w"): np.ones(3)}))
    again, _ = parse_faults(show(net), net.arrays)
    assert again.ops == net.ops and len(ops) == len(OPS) == 12


@pytest.mark.parametrize("scale", [1e-300, 1 / 3, 5e300, 255.0, np.float32(0.1).item()])
def test_floats_come_back_bit_for_bit(scale: float) -> None:
    net = small()
    same(replace(net, ops=(replace(net.ops[0], scale=scale), *net.ops[1:])), hashes=True)


def mapped(net: Net) -> Net:
    """A core for every channel of every layer, on one row; routes to every core of the next layer."""
    cores, routes = list[Core](), list[Route]()
    for layer in layers_of(net):
        for c in range(layer.grid[0]):
            box: Box = ((c, c + 1), (0, layer.grid[1]), (0, layer.grid[2]))
            cores.append(Core(len(cores), (len(cores), 0), (Slice(layer.name, box),)))
    for core in cores:
        if core.slices[0].layer != layers_of(net)[-1].name:
            routes.append(Route(core.id, core.slices[0], tuple(range(core.id, len(cores)))))
    order = "yx" if len(cores) % 2 else "xy"
    how = "nano", "at", "unicast", tuple(cores), tuple(routes), order, 1 + len(cores) % 3
    return net.with_map(Mapped("info", (len(cores), 2), *how))


@settings(max_examples=50)
@given(integer_nets(disciplines=("windowed",), rules=("membrane",)), st.booleans())
def test_maps_read_as_they_print(net: Net, hashes: bool) -> None:
    """Names that begin like numbers (`inf`, `nan`) or words of the grammar (`at`) included."""
    same(mapped(net), hashes=hashes)


@pytest.mark.parametrize("name", ["", "a b", "ü", "a:b", "-x", 'q"', "a\nb", "%x", "x" * 3 + "\x00"])
def test_names_that_text_cannot_hold_are_refused(name: str) -> None:
    net = small()
    net_named, op_named = replace(net, name=name), replace(net, ops=(*net.ops[:-1], replace(net.ops[-1], name=name)))
    assert [f.code for f in faults_of(net_named)] == [codes.NAME]
    assert any(f.code == codes.NAME and "is no name: names are made of" in f.fact for f in faults_of(op_named))
    w, v = replace(net, arrays=net.arrays.with_({Const(name): net.arrays[Const("w")]})), net.by_name["v"]
    assert isinstance(v, Dense)
    w = replace(w, ops=tuple(replace(v, w=Const(name)) if op is v else op for op in w.ops))
    assert any("is no name" in f.fact for f in faults_of(w))


def test_sizes_in_text_carry_no_sign() -> None:
    """Negative padding can only come from Python."""
    op = Conv2d(name="v", type=OPEN, x=Ref("in"), w=Const("w"), pad=(0, -1, 0, 0), bits=4)
    net = Net(
        "n", (Input(name="in", type=Analog((1, 4, 4), 0, 1)), op), Arrays({Const("w"): np.ones((1, 1, 1, 1), np.int8)})
    )
    net = replace(net, ops=(net.ops[0], replace(op, type=replace(OPEN, shape=(1, 4, 3), opens=0))))
    assert [f.fact for f in faults_of(net)] == ["pad and pool_pad must not be negative"]


def test_an_empty_side_can_come_from_python_too() -> None:
    net = Net("n", (Input(name="in", type=Spikes((), 0, 3)),))
    assert [f.fact for f in faults_of(net)] == ["shape  has an empty side"]


# -- text that means harm ------------------------------------------------------------------------------------------


def messages(text: str) -> list[Fault]:
    _, faults = parse_faults(text, small().arrays, source="x.ttfs")
    assert faults and all(str(f).startswith("x.ttfs") for f in faults)
    return faults


@settings(max_examples=300)
@given(st.text(st.characters(), max_size=200))
def test_any_text_at_all(text: str) -> None:
    messages(text)


TOKENS = [
    *string.punctuation, " ", "\n", "%in", "@w", "net", "map", "core", "route", "at", "dense", "fire", "decode", "0..",
    "..", "1x2", "9" * 400, "1e999", "-inf", "nan", "spikes<", "potential<2, 0..>", "w=@w", "//", "0:1", "\x00",
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(TOKENS), max_size=60))
def test_any_words_of_the_language(words: list[str]) -> None:
    messages(" ".join(words))


@settings(max_examples=100)
@given(integer_nets(max_layers=1), st.data())
def test_any_edit_of_a_net_reads_or_has_a_message(net: Net, data: st.DataObject) -> None:
    text = show(mapped_or(net), hashes=True)
    for _ in range(data.draw(st.integers(1, 3))):
        a = data.draw(st.integers(0, len(text)))
        b = data.draw(st.integers(a, min(a + 8, len(text))))
        text = text[:a] + data.draw(st.sampled_from(["", " ", "0", "9", "-", "%", "x", "\n", *TOKENS])) + text[b:]
    try:
        parse(text, net.arrays)
    except TtfsError as e:
        assert e.faults and all(f.code in codes.CODES for f in e.faults)


def mapped_or(net: Net) -> Net:
    layers = layers_of(net)
    return mapped(net) if layers and isinstance(net.answer, Decode) and net.answer.rule == "membrane" else net


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "net @n {\n" + "{" * 100_000,
        "net @n {\n  %x = add " + "%x " * 50_000 + ": potential<1, 0..>\n}",
        "net @n {\n  %x = input : spikes<" + "1x" * 50_000 + "1, 0..2>\n}",
        "net @n {\n  %x = input : spikes<" + "9" * 100_000 + ", 0..2>\n}",
        "net @n {\n  %" + "x" * 200_000 + " = input : spikes<1, 0..2>\n}",
        "net @n {\n  %x = input scale=" + "1" * 100_000 + " : spikes<1, 0..2>\n}",
        'net @n {\n  %x = input : spikes<1, 0..2> at "' + "\\" * 99_999 + '"\n}',
        '"' * 100_000,
        "/" * 100_001 + "\\" * 1000,
        "\x00" * 100_000,
        "net @n {\n  map @c mesh=999999x999999 partition=a place=b deliver=unicast {\n  }\n}",
    ],
    ids=range(12),
)
def test_deep_and_long_garbage(text: str) -> None:
    start = time.process_time()
    messages(text)
    assert time.process_time() - start < 20


def test_hostile_sizes() -> None:
    assert "more than the 67108864 a net may have" in messages("x" * (MAX_TEXT + 1))[0].fact
    long = messages("net @n {\n" + "%" * (1 << 19) + "\n}")
    assert long[0].fact == f"{1 << 19} characters, more than a line may have"
    start = time.process_time()
    many = messages("}\n" * (30 << 20))
    assert len(many) == 1001 and many[-1].fact == "1000 mistakes up to here; the rest is unread"
    assert time.process_time() - start < 20


def test_reading_is_quick() -> None:
    """A map of ten thousand cores and routes, and as many arrays: seconds, not minutes."""
    net = small()
    text = show(net)[:-2]
    text += "  map @c mesh=200x200 partition=tile place=row-major deliver=multicast {\n"
    text += "".join(f"    core {i} at {i % 200},{i // 200} : %s[{i}:{i + 1}, 0:1, 0:1]\n" for i in range(5000))
    text += "".join(f"    route {i} %s[{i}:{i + 1}, 0:1, 0:1] -> {i + 1} {i + 2}\n" for i in range(5000))
    text += "  }\n" + "".join(f"  @a{i} = i1<4> sha256={'0' * 64}\n" for i in range(5000)) + "}\n"
    pool = Arrays({**net.arrays, **{Const(f"a{i}"): np.zeros(4, np.int8) for i in range(5000)}})
    start = time.process_time()
    _, faults = parse_faults(text, pool)
    assert time.process_time() - start < 20
    assert sum("content hash" in f.fact for f in faults) == 5000
