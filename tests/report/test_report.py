"""The report as files: schema, text, HTML, and back again; nothing that comes from outside is trusted."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings

from tests.report.nets import mapped, small_chip, small_net, widths
from tests.strategies import inputs_for, integer_nets
from ttfsc.backends.report import (
    Compared,
    Provenance,
    Report,
    Verification,
    build,
    emit,
    from_json,
    measure,
    read_json,
    schema,
    text_of,
)
from ttfsc.backends.report.report import made_schema
from ttfsc.hardware import Figure
from ttfsc.ir import Decode, Fire, Net, TtfsError, run

HERE = Path(__file__).parent
MADE = Provenance("ttfsc", "0.1.0", {"bits": "3", "ticks": "4"})
EXACT = Verification(True, (Compared("C", 12, None),), ("NoC simulator",))
NASTY = '</script><script>alert("x")</script><b>&amp;\x1b[2J\u202e'


def full_report(*, name: str = "small", layer: str = "c1", origin: str = "features.0") -> Report:
    chip, net = small_chip(), small_net(name, layer, origin)
    net = mapped(net, chip)
    x = np.random.default_rng(3).integers(0, 16, (12, 1, 6, 6)).astype(np.uint8)
    y = run(net, x).labels.copy()
    y[0] = (y[0] + 1) % 3
    measured = measure(net, x, y)
    return build(net, chip=chip, measured=measured, verification=EXACT, provenance=MADE)


def data_of(report: Report) -> dict[str, Any]:
    return json.loads(emit(report)["report.json"])


def test_text_golden(update_golden: bool) -> None:
    path, got = HERE / "golden" / "report.txt", emit(full_report())["report.txt"].decode()
    if update_golden:
        path.write_text(got)
    assert got == path.read_text()


def test_shipped_schema_is_the_declared_one() -> None:
    assert schema() == made_schema(), "python -m tests.report.update_schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(schema()))


@settings(max_examples=8)
@given(integer_nets())
def test_every_report_keeps_to_its_schema(net: Net) -> None:
    net = widths(net)
    for measured in (None, measure(net, inputs_for(net, 0, 3))):
        report = build(net, chip=small_chip(), measured=measured, provenance=MADE)
        files = emit(report)
        jsonschema.validate(json.loads(files["report.json"]), json.loads(schema()))
        assert emit(read_json(files["report.json"])) == files
        Page().check(files["report.html"].decode())


def test_rendering_again_gives_the_same_bytes() -> None:
    files = emit(full_report())
    assert emit(read_json(files["report.json"])) == files
    assert emit(full_report()) == files
    assert text_of(read_json(files["report.json"])).encode() == files["report.txt"]


def test_same_bytes_whatever_the_hash_seed() -> None:
    root = HERE.parents[1]
    code = "import hashlib; from tests.report.test_report import *; f = emit(full_report())\n"
    code += "print([hashlib.sha256(f[k]).hexdigest() for k in sorted(f)])"
    outs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True, cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outs) == 1


def test_figures_of_the_small_net() -> None:
    report = full_report()
    a, m = report.activity, report.model
    assert a is not None
    assert (a.inputs, a.correct, a.accuracy) == (12, 11, 11 / 12)
    assert (m.neurons, m.readout, m.classes, m.parameters) == (3 * 36 + 4 * 9, 3, 3, 27 + 108 + 108)
    assert m.weight_bits == (3,) and m.weight_bytes == (27 * 3 + 7) // 8 + 2 * ((108 * 3 + 7) // 8)
    assert a.spikes_per_neuron == a.spikes / m.neurons
    assert (report.latency.serial, report.latency.interval) == (12, 4)
    assert [layer.window for layer in report.layers] == [(0, 4), (4, 8), (8, 12)]
    assert report.layers[0].source == "features.0"
    assert report.layers[1].reads[0].max_pools == 1 and report.layers[1].reads[0].shape == (3, 3, 3)
    assert a.sops == sum(layer.activity.sops for layer in report.layers if layer.activity)
    assert report.layers[0].activity is not None and report.layers[0].activity.sops == 0
    assert report.layers[0].activity.macs > 0
    eq11 = {line.key: line.value for line in report.energy}
    assert eq11["truenorth"] == 0.6 * 12 / 512 + 0.4 * a.spikes / 2.612e6
    assert eq11["spinnaker"] == 0.36 * 12 / 512 + 0.64 * a.spikes / 2.612e6
    assert all(line.modelled and line.formula and line.source for line in report.energy)


@pytest.mark.parametrize(
    ("figures", "known"),
    [
        ({"e_hop": None}, {"truenorth", "spinnaker"}),
        ({"e_static": None}, {"truenorth", "spinnaker"}),
        ({"e_sop": None}, {"truenorth", "spinnaker"}),
        ({"e_hop": Figure(0, "pJ", "wired")}, {"a", "b-unicast", "b-multicast", "c", "truenorth", "spinnaker"}),
    ],
)
def test_not_modelled(figures: dict[str, Figure | None], known: set[str]) -> None:
    chip = small_chip(16, **figures)
    net = mapped(small_net(), chip)
    measured = measure(net, np.full((2, 1, 6, 6), 9, np.uint8))
    report = build(net, chip=chip, measured=measured, provenance=MADE)
    assert {line.key for line in report.energy if line.value is not None} == known
    for line in report.energy:
        assert (line.value is None) == bool(line.not_modelled)
    key = next(iter(figures))
    if figures[key] is None:
        text = emit(report)["report.txt"].decode()
        assert f"not modelled (chip tiny gives no {key})" in text
        assert b"not modelled" in emit(report)["report.html"]
    if key == "e_hop":
        hops = [layer.energy.hops_uj for layer in report.layers]
        assert hops == ([None] * 3 if figures[key] is None else [0.0] * 3)


def test_nothing_measured_nothing_mapped() -> None:
    report = build(small_net(), chip=small_chip(), provenance=MADE)
    assert report.activity is None and report.traffic is None and report.mapping is None
    assert all(line.value is None for line in report.energy)
    reasons = {reason for line in report.energy for reason in line.not_modelled}
    assert reasons == {"no inputs were measured"}
    text = emit(report)["report.txt"].decode()
    for line in ("Activity  not measured: no inputs were given", "Cores     not mapped",
                 "Verified  nothing was compared; not run: comparison of engines"):  # fmt: skip
        assert line in text.splitlines()


def test_measured_but_not_mapped() -> None:
    net = small_net()
    measured = measure(net, np.full((2, 1, 6, 6), 9, np.uint8))
    report = build(net, chip=small_chip(), measured=measured, provenance=MADE)
    known = {line.key: line.not_modelled for line in report.energy}
    assert known["b-multicast"] == ("the network is not mapped to cores",)
    assert known["truenorth"] == ()
    assert report.layers[0].energy.spikes_uj is not None and report.layers[0].energy.hops_uj is None


def test_a_mismatch_is_said_first() -> None:
    chip, net = small_chip(), small_net()
    differs = Verification(False, (Compared("C", 3, "%c1[0, 1, 2] tick 3, input 1"),), ())
    text = text_of(build(net, chip=chip, verification=differs, provenance=MADE))
    want = "Verified  NOT EXACT: C differs: %c1[0, 1, 2] tick 3, input 1"
    assert want in text.splitlines()


def test_an_unfinished_net_is_refused() -> None:
    net = small_net()
    loose = net.with_ops(replace(op, width=0) if isinstance(op, Fire | Decode) else op for op in net.ops)
    with pytest.raises(TtfsError, match="run prove-widths"):
        build(loose, chip=small_chip(), provenance=MADE)


class Page(HTMLParser):
    """Every tag closed in order, no script, nothing from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text = list[str](), list[str]()
        self.faults = list[str]()

    def check(self, page: str) -> "Page":
        self.feed(page)
        self.close()
        assert not self.open and not self.faults, (self.open, self.faults)
        return self

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "b", "link", "img", "iframe"):
            self.faults.append(tag)
        self.faults += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href") or k.startswith("on")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "line":
            self.faults.append(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_is_well_formed_and_complete() -> None:
    page = Page().check(emit(full_report())["report.html"].decode())
    text = " ".join(page.text)
    for part in ("small", "Spikes per frame", "When the spikes come", "Energy per layer, line (b), multicast",
                 "Neurons per core", "Memory per core", "Packets sent per core", "Link load", "Hops per packet",
                 "Energy per layer, line (c)", "bit-exact: interpreter = C on 12 inputs",
                 "modelled, not measured", "Definitions"):  # fmt: skip
        assert part in text


def hostile() -> Report:
    """What a report.json from somebody else may hold wherever a text is allowed."""
    data = data_of(full_report())

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            table = cast("dict[str, Any]", value)
            return {k: v if k == "way" else spoil(v) for k, v in table.items()}  # one of four words, never a text
        if isinstance(value, list):
            return [spoil(v) for v in cast("list[Any]", value)]
        return NASTY + value if isinstance(value, str) else value

    return from_json(spoil(data))


def test_hostile_names_stay_text() -> None:
    files = emit(hostile())
    page = Page().check(files["report.html"].decode())
    assert '<script>alert("x")' in " ".join(page.text)  # shown, as text
    for view in ("report.html", "report.txt"):
        content = files[view].decode()
        assert "\x1b" not in content and "\u202e" not in content
    assert b"\\x1b[2J\\u202e" in files["report.txt"]


def at(data: Any, *path: str | int) -> Any:
    for step in path:
        data = data[step]
    return data


SPOILED: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("schema_version",), 2, "schema_version is 2, this ttfsc reads 1"),
    (("schema_version",), True, "missing or no version"),
    (("model", "neurons"), -1, "model.neurons: is -1, must not be negative"),
    (("model", "neurons"), 1.5, "model.neurons: is 1.5, must be an integer"),
    (("model", "neurons"), True, "model.neurons: is True, must be an integer"),
    (("model", "neurons"), 10**400, "model.neurons: is a huge integer"),
    (("model", "name"), 3, "model.name: is 3, must be a text"),
    (("model", "name"), "x" * 10_001, "model.name: has 10001 characters"),
    (("activity", "spikes"), float("nan"), "activity.spikes: is nan"),
    (("activity", "spikes"), float("inf"), "activity.spikes: is inf"),
    (("layers",), {}, "layers: is an object, must be a list"),
    (("layers", 0), None, r"layers\[0\]: is None, must be an object"),
    (("layers", 0, "window"), [1], r"layers\[0\].window: has 1 entries, must have 2"),
    (("layers", 0, "activity", "times"), ["4"], r"layers\[0\].activity.times\[0\]: is '4', must be an integer"),
    (("provenance", "options"), {"a": 1}, "provenance.options.'a': is 1, must be a text"),
    (("provenance", "extra"), 1, "provenance: has an unknown key 'extra'"),
    (("mapping", "links", "loads", 0, "way"), "up", r"loads\[0\].way: is 'up', must be 'east' or 'west' or"),
    (("energy", 0, "modelled"), "no", r"energy\[0\].modelled: is 'no', must be true or false"),
]


@pytest.mark.parametrize(("path", "value", "fact"), SPOILED, ids=lambda v: str(v)[:30])
def test_damaged_json(path: tuple[str | int, ...], value: Any, fact: str) -> None:
    data = copy.deepcopy(data_of(full_report()))
    at(data, *path[:-1])[path[-1]] = value
    with pytest.raises(TtfsError, match=fact):
        from_json(data)
    if value == value and value != float("inf"):  # JSON has no such numbers, so a schema does not speak of them
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data, json.loads(schema()))


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "must be an object"),
        (b"{}", "missing or no version"),
        (b'{"schema_version": 1}', "has no key 'model'"),
    ],
)
def test_no_report_at_all(content: bytes, fact: str) -> None:
    with pytest.raises(TtfsError, match=fact):
        read_json(content, source="x/report.json")


def test_all_damage_at_once() -> None:
    data = data_of(full_report())
    data["model"]["neurons"] = "many"
    data["chip"]["name"] = None
    del data["latency"]
    with pytest.raises(TtfsError) as e:
        from_json(data, source="r.json")
    assert [str(f) for f in e.value.faults] == [
        "r.json: error[TTFS014]: has no key 'latency'",
        "r.json: error[TTFS014]: model.neurons: is 'many', must be an integer",
        "r.json: error[TTFS014]: chip.name: is None, must be a text",
    ]


def empty_mesh(data: dict[str, Any]) -> None:
    data["mapping"]["mesh"] = [0, 0]


def no_layers(data: dict[str, Any]) -> None:
    data["layers"] = []


def no_time(data: dict[str, Any]) -> None:
    data["latency"].update(serial=0, interval=0)


def huge(data: dict[str, Any]) -> None:
    data["activity"]["spikes"] = 1e300
    data["layers"][0]["energy"].update(spikes_uj=1e300, hops_uj=1e300)
    data["mapping"]["cores"][0].update(x=2**53, packets=1e300)


@pytest.mark.parametrize("change", [empty_mesh, no_layers, no_time, huge])
def test_odd_but_allowed_figures_still_render(change: Callable[[dict[str, Any]], None]) -> None:
    data = data_of(full_report())
    change(data)
    Page().check(emit(from_json(data))["report.html"].decode())
