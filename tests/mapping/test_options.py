"""Mapping from the command line: every option becomes an option of a pass, and what contradicts itself is named."""

import json
from pathlib import Path

import pytest

import ttfsc as compiler
from tests.driver.conftest import Cli, real_net
from tests.mapping.nets import chip_of, mnist
from ttfsc.compiler import Options, compile_net
from ttfsc.ir import Mapped, Net, TtfsError, codes, layers_of, load, traffic
from ttfsc.mapping import MapOptions, rates_of
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route
from ttfsc.passes.warm import earlier_places

CHIP = """
name = "small"
title = "small cores, some of them dead"
delivery = "multicast"
dead = [[0, 0]]
[neurons_per_core]
value = 16
unit = "neurons"
source = "test"
"""


@pytest.fixture
def arch(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(CHIP)
    return path


def map_of(folder: Path) -> Mapped:
    mapped = load(folder / "net.ttfs").mapped
    assert mapped is not None
    return mapped


def pipeline_of(out: str) -> str:
    return next(line for line in out.splitlines() if line.startswith("pipeline: "))


def test_what_is_default_is_not_written(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    done = ttfsc("compile", model, "-o", tmp_path / "a", "--target", "noc")
    assert pipeline_of(done.out).endswith(",prove-widths,partition{scheme=tile},place,route")


def test_every_option(ttfsc: Cli, model: Path, inputs: Path, arch: Path, tmp_path: Path) -> None:
    """The result is that of the passes: pinned, dead and avoided places, the delivery, and the order of the axes."""
    pytest.importorskip("numba")
    done = ttfsc(
        "compile", model, "-o", tmp_path / "a", "--target", "noc", "--arch", arch, "--partition", "feature",
        "--place", "anneal", "--objective", "unicast", "--restarts", "2", "--rates", "0.5", "--seed", "7",
        "--pin", "2@1:1", "--pin", "0@2:2", "--avoid", "1:0", "--delivery", "unicast", "--routing", "yx",
        "--pool", "source", "--inputs", inputs,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert pipeline_of(done.out).endswith(
        "partition{scheme=feature},place{scheme=anneal,objective=unicast,seed=7,restarts=2,rate=0.5,pool=source,"
        "pinned=2@1:1 0@2:2,closed=1:0},route{delivery=unicast,order=yx,pool=source}"
    )
    assert "mapped cores" in done.out
    mapped = map_of(tmp_path / "a")
    places = {core.id: core.place for core in mapped.cores}
    assert places[2] == (1, 1)
    assert places[0] == (2, 2)
    assert not {(0, 0), (1, 0)} & set(places.values())
    assert (mapped.delivery, mapped.order) == ("unicast", "yx")


def test_rates_of_a_simulation_or_a_report(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    """What was measured once is what the next placement expects; samples can also be measured on the spot."""
    pytest.importorskip("numba")
    assert ttfsc("compile", model, "-o", tmp_path / "a", "--inputs", inputs, "--target", "noc,report").code == 0
    assert ttfsc("simulate", tmp_path / "a", "--inputs", inputs, "-o", tmp_path / "s.json").code == 0
    simulated = json.loads((tmp_path / "s.json").read_text())
    spikes = next(layer["spikes"] for layer in simulated["layers"] if layer["name"] == "c")
    assert rates_of(str(tmp_path / "s.json")) == rates_of(str(tmp_path / "a" / "report" / "report.json"))
    assert rates_of(str(tmp_path / "s.json")) == f"c:{spikes / 144:.6g}"
    more = ("--place", "anneal", "--seconds", "0.1", "--target", "noc")
    done = ttfsc("compile", model, "-o", tmp_path / "b", "--rates", tmp_path / "s.json", *more)
    assert f"layers=c:{spikes / 144:.6g}" in pipeline_of(done.out)
    done = ttfsc("compile", model, "-o", tmp_path / "c", "--rates", "measured", "--calib", inputs, *more)
    assert "rates=measured" in pipeline_of(done.out)
    assert done.code == 0


def test_a_warm_start_from_a_folder(
    ttfsc: Cli, model: Path, arch: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("numba")
    common = ("--target", "noc", "--arch", arch, "--place", "anneal", "--seconds", "0.1")
    assert ttfsc("compile", model, "-o", tmp_path / "a", *common).code == 0
    with caplog.at_level("INFO"):
        assert ttfsc("compile", model, "-o", tmp_path / "b", "--start-from", tmp_path / "a", *common).code == 0
    cores = len(map_of(tmp_path / "a").cores)
    assert f"place: {cores} of {cores} cores start where the earlier map had them" in caplog.text
    assert ttfsc("compile", model, "-o", tmp_path / "c", "--start-from", tmp_path, *common).code == 1
    passes = "partition,place{scheme=anneal,start=earlier,seconds=0.1},route"
    start = ("opt", tmp_path / "a" / "net.ttfs", "--arch", arch, "-p", passes)
    assert ttfsc(*start, "--start-from", tmp_path / "a").code == 0
    assert "start=earlier needs an earlier map (--start-from DIR)" in ttfsc(*start).err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--objective", "unicast"), "--objective belongs to --place anneal, it has no meaning for hilbert"),
        (("--place", "hilbert", "--seconds", "3"), "--seconds belongs to --place anneal, it has no meaning for hil"),
        (("--rates", "0.1"), "--rates belongs to --place anneal"),
        (("--restarts", "1"), "--restarts belongs to --place anneal"),
        (("--pool", "source", "--pipeline", "partition"), "--pipeline names all passes: write --pool as options of"),
        (("--place", "anneal", "--rates", "2"), "rate=2 must be more than 0 and at most 1"),
        (("--place", "anneal", "--rates", "nobody:0.2"), "layers=nobody:0.2: no layer 'nobody' fires; there are c"),
        (("--place", "anneal", "--rates", "c:1.5"), "layers=c:1.5 must be layer:rate with a rate of 0..1"),
        (("--place", "anneal", "--rates", "measured"), "rates=measured needs sample inputs (--calib X.npz)"),
        (("--place", "anneal", "--rates", "none.json"), "none.json: error[TTFS013]: no such file"),
        (("--pin", "0@9:9"), "pinned=0@9:9 is closed or outside of the 2x2 mesh"),
        (("--pin", "0"), "pinned=0 must be core@x:y"),
        (("--avoid", "here"), "closed=here must be places x:y"),
    ],
)  # fmt: skip
def test_wrong_options(ttfsc: Cli, model: Path, tmp_path: Path, given: tuple[str, ...], message: str) -> None:
    pytest.importorskip("numba")
    done = ttfsc("compile", model, "-o", tmp_path / "a", "--target", "noc", *given)
    assert done.code == 1
    assert message in done.err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("text", "code", "fact"),
    [
        ("{", codes.DAMAGED, "is not JSON"),
        ("[]", codes.OPTION, "it names no layer"),
        ('{"c": "much"}', codes.OPTION, "'c' is no number"),
        ('{"c": true}', codes.OPTION, "'c' is no number"),
        ('{"layers": [{"name": "c", "activity": null}, 3]}', codes.OPTION, "it names no layer"),
    ],
)
def test_files_that_hold_no_rates(tmp_path: Path, text: str, code: int, fact: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(TtfsError) as e:
        rates_of(str(path))
    assert [f.code for f in e.value.faults] == [code]
    assert fact in str(e.value)


def test_given_rates_are_annealed_for() -> None:
    """With nearly all traffic from c1, its cores end nearer to their readers than with none from it."""
    pytest.importorskip("numba")
    net = partition(mnist(), chip=chip_of(256))

    def cost(layers: str) -> int:
        placed = place(net, scheme="anneal", restarts=1, moves=50_000, layers=layers, rate=0.01)
        return int(traffic(route(placed))["c1"].hops_multicast.sum())

    assert cost("c1:1") < cost("c1:0 c2:1 f3:1")


def test_passes_of_the_options() -> None:
    assert MapOptions().passes(3) == "partition{scheme=tile},place,route"
    assert MapOptions(place="row-major").passes(3) == "partition{scheme=tile},place{scheme=row-major},route"
    text = MapOptions(place="anneal", rates="measured", seconds=2.5).passes(3)
    assert text == "partition{scheme=tile},place{scheme=anneal,seed=3,seconds=2.5,rates=measured},route"


def test_the_same_options_from_python() -> None:
    made = compile_net(real_net(), Options(targets=("noc",), place="row-major", delivery="unicast", pin="0@1:1"))
    assert made.net.mapped is not None
    assert (made.net.mapped.placement, made.net.mapped.delivery) == ("row-major", "unicast")
    assert made.net.mapped.cores[0].place == (1, 1)
    with pytest.raises(TtfsError, match="--rates belongs to --place anneal"):
        compiler.compile(real_net(), rates="0.2")


def places_of(net: Net) -> list[tuple[int, int]]:
    assert net.mapped is not None
    return [core.place for core in net.mapped.cores]


def test_known_cores_stand_where_they_stood() -> None:
    """A pinned core, a closed place and cores that are cut otherwise take nobody's place."""
    net = place(partition(mnist(), chip=chip_of(256)), scheme="hilbert")
    assert net.mapped is not None
    cores, mesh = net.mapped.cores, net.mapped.mesh
    every = [(x, y) for y in range(mesh[1]) for x in range(mesh[0])]
    found, kept = earlier_places(cores, net.mapped, {}, iter(every), frozenset(every))
    assert [found[core.id] for core in cores] == places_of(net)
    assert kept == len(cores)
    shut = cores[5].place
    found, kept = earlier_places(
        cores, net.mapped, {0: cores[3].place}, (p for p in every if p != shut), frozenset(every) - {shut}
    )  # fmt: skip
    assert found[0] == cores[3].place
    assert len(set(found.values())) == len(cores)
    assert shut not in found.values()
    assert kept == len(cores) - 3  # the pinned one, whom it drove away, and whose place was closed
    other = partition(mnist(), scheme="feature", chip=chip_of(256))
    assert other.mapped is not None
    found, kept = earlier_places(other.mapped.cores, net.mapped, {}, iter(every * 4), frozenset(every))
    same = {core.slices for core in cores} & {core.slices for core in other.mapped.cores}
    assert kept == len(same)
    assert {layer.name for layer in layers_of(other)} > {slices[0].layer for slices in same}
