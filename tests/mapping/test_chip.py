import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from ttfsc.hardware import UNITS, Chip, Figure, chip_names, load_chip
from ttfsc.hardware.chip import read_chip
from ttfsc.ir import TtfsError, codes

Change = Callable[[str], str]

GOOD = """
name = "mine"
title = "a chip"
delivery = "unicast"
[neurons_per_core]
value = 256
unit = "neurons"
source = "sheet"
[e_hop]
value = 12.5
unit = "pJ"
source = "sheet"
"""
HOP = '[e_hop]\nvalue = 12.5\nunit = "pJ"\nsource = "sheet"\n'
MESH = '[mesh_width]\nvalue = 4\nunit = "cores"\nsource = "sheet"\n'

BAD: list[tuple[str, Change, str]] = [
    ("not TOML", lambda t: t + "= 3", "not TOML:"),
    ("unknown key", lambda t: t + "[e_sopp]\nvalue = 1", "e_sopp: unknown key; a chip has accumulator_bits, axons_in"),
    ("no name", lambda t: t.replace('name = "mine"\n', ""), 'name: missing: write name = "..."'),
    ("name of wrong type", lambda t: t.replace('"mine"', "3"), "name: 3 must be text"),
    ("name with spaces", lambda t: t.replace('"mine"', '"my chip"'), "name: 'my chip': letters, digits"),
    ("delivery", lambda t: t.replace("unicast", "flood"), "delivery: 'flood' must be multicast or unicast"),
    ("missing figure", lambda t: t[: t.index("[neurons")], "neurons_per_core: missing: write [neurons_per_core]"),
    ("figure is a number", lambda t: "e_hop = 3\n" + t.replace(HOP, ""), "e_hop: must be a table"),
    ("unknown part", lambda t: t + 'note = "x"\n', "e_hop.note: unknown key; a figure has value, unit and source"),
    ("no value", lambda t: t.replace("value = 12.5\n", ""), "e_hop.value: missing; leave the whole figure out"),
    ("value is text", lambda t: t.replace("12.5", '"12.5"'), "e_hop.value: '12.5' must be a finite number"),
    ("value is a truth", lambda t: t.replace("12.5", "true"), "e_hop.value: True must be a finite number"),
    ("value is infinite", lambda t: t.replace("12.5", "inf"), "e_hop.value: inf must be a finite number"),
    ("negative", lambda t: t.replace("12.5", "-1"), "e_hop.value: -1 is negative"),
    ("no whole number", lambda t: t.replace("256", "256.5"), "neurons_per_core.value: 256.5 must be a whole number"),
    ("zero cores", lambda t: t.replace("256", "0"), "neurons_per_core.value: 0 must be a whole number, at least 1"),
    ("wrong unit", lambda t: t.replace('"pJ"', '"nJ"'), "e_hop.unit: 'nJ'; must be \"pJ\": convert the value"),
    ("no unit", lambda t: t.replace('unit = "pJ"\n', ""), 'e_hop.unit: missing; must be "pJ"'),
    ("no source", lambda t: t.replace(HOP, HOP.replace('source = "sheet"\n', "")), "e_hop.source: missing: say where"),
    ("dead is no place", lambda t: "dead = [[1]]\n" + t, "dead: [[1]] must be places of cores: dead = [[x, y], ...]"),
    ("dead is negative", lambda t: "dead = [[1, -1]]\n" + t, "dead: [[1, -1]] must be places of cores"),
    ("half a mesh", lambda t: t + MESH, "mesh_width: mesh_width and mesh_height go together"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_each_rule(change: Change, message: str) -> None:
    text = change(GOOD)
    assert text != GOOD
    with pytest.raises(TtfsError) as e:
        read_chip(text, "mine.toml")
    (fault,) = e.value.faults
    assert fault.code == codes.CHIP
    assert str(fault).startswith(f"mine.toml: error[TTFS{codes.CHIP:03d}]: {message}")


@pytest.mark.parametrize("key", UNITS)
def test_every_figure_has_its_unit_a_value_that_is_not_negative_and_a_source(key: str) -> None:
    pair = {"mesh_width": "mesh_height", "mesh_height": "mesh_width"}

    def chip_with(value: str, unit: str, source: str) -> Chip:
        beside = ["neurons_per_core", *([pair[key]] if key in pair else [])]
        figures = {name: f'value = 4\nunit = "{UNITS[name]}"\nsource = "sheet"' for name in beside}
        figures[key] = f'value = {value}\nunit = "{unit}"\nsource = "{source}"'
        head = 'name = "mine"\ntitle = "a chip"\ndelivery = "unicast"\n'
        return read_chip(head + "".join(f"[{name}]\n{text}\n" for name, text in figures.items()), "mine.toml")

    figure = chip_with("7", UNITS[key], "sheet").figures[key]
    assert figure == Figure(7, UNITS[key], "sheet")
    for value, unit, source, part in (
        ("-1", UNITS[key], "sheet", "value"),
        ("7", "parsec", "sheet", "unit"),
        ("7", UNITS[key], " ", "source"),
        ("nan", UNITS[key], "sheet", "value"),
    ):
        with pytest.raises(TtfsError) as e:
            chip_with(value, unit, source)
        assert [f.subject for f in e.value.faults] == [f"{key}.{part}"]


def test_shipped_figures_have_sources_that_name_a_publication() -> None:
    for name in chip_names():
        for key, figure in load_chip(name).figures.items():
            if figure is not None:
                assert re.search(r"\(?(19|20)\d\d\)?|assumed", figure.source), f"{name}: {key}"


def test_every_fault_at_once() -> None:
    text = GOOD.replace("12.5", "-3").replace('"pJ"', '"J"').replace("unicast", "none") + '[colour]\nvalue = "red"\n'
    with pytest.raises(TtfsError) as e:
        read_chip(text, "mine.toml")
    assert {f.subject for f in e.value.faults} == {"colour", "delivery", "e_hop.value", "e_hop.unit"}


def test_shipped_figures() -> None:
    chip = load_chip("canmore-22nm")
    assert (int(chip.neurons_per_core), chip.mesh, chip.delivery) == (1024, None, "multicast")
    shown = {key: str(figure) for key, figure in chip.figures.items() if figure is not None}
    assert shown == {
        "neurons_per_core": "1,024 neurons", "e_sop": "20 pJ", "e_hop": "100 pJ", "e_static": "3.52 uJ/frame",
    }  # fmt: skip
    assert chip.figures["synapse_bits_per_core"] is None  # unknown, hence not modelled


def test_every_shipped_chip_is_good_and_named_like_its_file() -> None:
    assert "canmore-22nm" in chip_names()
    for name in chip_names():
        assert load_chip(name).name == name


def test_template_is_a_chip_with_every_figure(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(files("ttfsc.hardware").joinpath("template.toml").read_text("utf-8"), "utf-8")
    chip = load_chip(path)
    assert all(figure is not None for figure in chip.figures.values())
    assert "template" not in chip_names()


@pytest.mark.parametrize(("cores", "mesh"), [(1, (1, 1)), (2, (2, 2)), (4, (2, 2)), (5, (3, 3)), (279, (17, 17))])
def test_mesh_grows_to_the_smallest_square(cores: int, mesh: tuple[int, int]) -> None:
    assert load_chip("canmore-22nm").mesh_for(cores) == mesh


def test_a_fixed_mesh_stays() -> None:
    chip = read_chip(GOOD + MESH + MESH.replace("width", "height").replace("4", "3"), "mine.toml")
    assert chip.mesh == chip.mesh_for(500) == (4, 3)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("canmore", codes.CHIP, "chip canmore: no such chip; there are anp-i-like, canmore-22nm, loihi-like"),
        ("{}/none.toml", codes.FILE, "no such file"),
        ("{}/folder.toml", codes.FILE, "cannot be read as text"),
        ("{}/latin.toml", codes.FILE, "cannot be read as text"),
        ("{}/long.toml", codes.CHIP, "larger than 1048576 bytes"),
        ("{}/deep.toml", codes.CHIP, "not TOML"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, code: int, message: str) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    (tmp_path / "long.toml").write_bytes(b"#" * (1 << 20) + b"##")
    (tmp_path / "deep.toml").write_bytes(b"a = " + b"[" * 5000)
    with pytest.raises(TtfsError, match=re.escape(message)) as e:
        load_chip(name.format(tmp_path))
    assert [f.code for f in e.value.faults] == [code]
