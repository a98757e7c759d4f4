"""The compiled C gives what the reference meaning gives: every spike, score and label."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_build import STRICT, UNDEFINED, assert_same, need
from c_nets import NETS, RNG, Hand
from fast_nets import SEEDS, fast_net, pooled_ramp_net
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import inputs_for, integer_nets
from ttfsc.backends.c import Engine, dot, emit, fast, pile, walk
from ttfsc.backends.c.lower import lower
from ttfsc.ir import OPEN, Add, Analog, Flatten, Net, Ref, Spikes, run
from ttfsc.passes.prove_widths import prove_widths


def check(
    net: Net, cache: Path, flags: tuple[str, ...], *, blob_from: int = 1 << 20, n: int = 5, cpu: str = "generic"
) -> None:
    x = inputs_for(net, 1, n)
    files = emit(net, samples=x[:1], blob_from=blob_from, cpu=cpu)
    engine = Engine(files, flags=flags, cache=cache, threads=2)
    assert_same(engine.run(x), run(net, x), net)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("libraries")


@given(net=integer_nets())
@settings(max_examples=40)
def test_random_nets(cache: Path, net: Net) -> None:
    check(prove_widths(net), cache, ("-O0", *STRICT, *UNDEFINED))


@given(net=integer_nets())
@settings(max_examples=8)
def test_random_nets_optimised(cache: Path, net: Net) -> None:
    check(prove_widths(net), cache, ("-O2", *STRICT))


@given(net=integer_nets())
@settings(max_examples=8)
def test_random_nets_clang(cache: Path, net: Net) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", need("clang"))
        check(prove_widths(net), cache, ("-O1", *STRICT))


@given(net=integer_nets())
@settings(max_examples=5)
def test_random_nets_with_linked_weights(cache: Path, net: Net) -> None:
    check(prove_widths(net), cache, ("-O0",), blob_from=0)


@pytest.mark.parametrize("name", NETS)
def test_features(name: str, cache: Path) -> None:
    check(NETS[name](), cache, ("-O1", *STRICT, *UNDEFINED), n=40)


@pytest.mark.parametrize("name", ["tiny", "stream", "residual"])
def test_features_as_users_run_them(name: str, cache: Path) -> None:
    net = NETS[name]()
    x = inputs_for(net, 2, 50)
    assert_same(Engine(emit(net), cache=cache).run(x), run(net, x), net)


@given(seed=SEEDS)
@settings(max_examples=6)
def test_fast_layers(cache: Path, seed: int) -> None:
    """Whatever the fast kernels are asked for: dot products, GNU vectors and plain C."""
    net = fast_net(seed)
    for way in ((), ("-DFAST_DOTS=1",), ("-DFAST_DOTS=0",), ("-DFAST_PLAIN",)):
        check(net, cache, ("-O1", *STRICT, *UNDEFINED, *way), n=3)
    check(net, cache, ("-O1", *STRICT, *UNDEFINED), n=3, cpu="c99")


def never(*_: object) -> bool:
    return False


@pytest.mark.parametrize("half", [False, True])
@given(seed=SEEDS)
@settings(max_examples=4)
def test_gathered_layers(cache: Path, half: bool, seed: int) -> None:
    """What large layers are computed by, on small ones: lists merged for each position, two weights in a byte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "walkable", never)
        patch.setattr(pile, "pileable", never)
        patch.setattr(fast, "HALF_FROM", 0 if half else 1 << 30)
        for way in ((), ("-DFAST_WIDE=0",) if half else ("-DFAST_WIDE=1",)):
            check(fast_net(seed), cache, ("-O1", *STRICT, *UNDEFINED, "-DFAST_DOTS=0", *way), n=3)


def free(*_: object, **__: object) -> float:
    return 0.0


@given(seed=SEEDS)
@settings(max_examples=6)
def test_piled_layers(cache: Path, seed: int) -> None:
    """Rows piled up wherever that is possible, in GNU vectors of every width, asked for and not, and in plain C."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "walkable", never)
        patch.setattr(walk, "pile_cost", free)
        for way in (("-march=native",), (), ("-DFAST_WIDE=1",), ("-DFAST_WIDE=0",), ("-DFAST_PLAIN",)):
            check(fast_net(seed), cache, ("-O1", *STRICT, *UNDEFINED, "-DFAST_DOTS=0", *way), n=3)


def test_groups_fill_their_blocks(cache: Path) -> None:
    """Nine blocks of 32 outputs: as five of 64 they would leave a gap between the groups."""
    h = Hand("fast", Spikes((2, 3, 3), 0, 10), 10)
    h.conv("a.v", "in", (576, 1, 3, 3), bits=4, kernel="ramp", groups=2).fire("a", "a.v", 20)
    h.op(Flatten(name="f", type=OPEN, x=Ref("a"))).dense("o.v", "f", (3, 576), kernel="hold")
    check(h.membrane("o.v"), cache, ("-O1", *STRICT, *UNDEFINED), n=3)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("integers", [False, True])
def test_windows_of_one_input_that_skip_some(cache: Path, integers: bool, groups: int) -> None:
    """A pool of 1x1 with a stride of two sums nothing, but taps are not the operand's neighbours."""
    h = Hand("fast", Analog((3, 9, 9), -9, 40) if integers else Spikes((3, 9, 9), 0, 10), 10)
    taps: dict[str, Any] = {"kernel": "hold" if integers else "ramp", "pool": (1, 1), "pool_stride": (2, 2)}
    h.conv("a.v", "in", (96, 3 // groups, 3, 3), groups=groups, **taps).fire("a", "a.v", 60)
    h.op(Flatten(name="f", type=OPEN, x=Ref("a"))).dense("o.v", "f", (3, 96 * 9), kernel="hold")
    check(h.membrane("o.v"), cache, ("-O1", *STRICT, *UNDEFINED), n=3)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("channels", "outputs"), [(160, 160), (70, 140), (48, 48)])
def test_depthwise_layers_and_identity_skips(cache: Path, channels: int, outputs: int, plain: bool) -> None:
    """Every width of a piece of a row; a skip of ones beside a convolution; nothing by the general kernels."""
    h = Hand("fast", Spikes((channels, 5, 4), 0, 10), 10)
    same: dict[str, Any] = {"kernel": "ramp", "pad": (1, 1, 1, 1)}
    h.conv("a.v", "in", (outputs, 1, 3, 3), groups=channels, bias=RNG(1).integers(-30, 30, outputs), **same)
    h.fire("a", "a.v", 60)
    h.conv("b.v", "a", (outputs, outputs // 2, 3, 3), groups=2, stride=(2, 1), **same).fire("b", "b.v", 300)
    h.conv("c.v", "b", (outputs, outputs, 3, 3), **same)
    h.conv("skip", "b", (outputs, 1, 1, 1), w=np.ones((outputs, 1, 1, 1), np.int8), groups=outputs)
    h.op(Add(name="d.v", type=OPEN, xs=(Ref("c.v"), Ref("skip")))).fire("d", "d.v", 300)
    h.op(Flatten(name="f", type=OPEN, x=Ref("d"))).dense("o.v", "f", (3, outputs * 12), kernel="hold")
    net = h.membrane("o.v")
    assert [c.layer for c in lower(net).choices if "packed" in c.kernel] == []
    check(net, cache, ("-O1", *STRICT, *UNDEFINED, *(("-DFAST_PLAIN",) if plain else ())), n=3)


@given(seed=SEEDS)
@settings(max_examples=3)
def test_fast_layers_as_users_build_them(cache: Path, seed: int) -> None:
    check(fast_net(seed), cache, ("-O3", "-march=native", *STRICT), n=3)


@given(net=integer_nets())
@settings(max_examples=6)
def test_random_nets_compact(cache: Path, net: Net) -> None:
    net = prove_widths(net)
    x = inputs_for(net, 1, 5)
    engine = Engine(emit(net, samples=x[:1], cpu="cortex-m"), flags=("-O0", *STRICT, *UNDEFINED), cache=cache)
    assert_same(engine.run(x), run(net, x), net)


@given(seed=SEEDS, share=st.sampled_from([0.0, 0.4, 1.0]))
@settings(max_examples=6)
def test_listed_dot_products(cache: Path, seed: int, share: float) -> None:
    """Only fours of inputs that hold anything, and rows of which too many do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dot, "LISTED_SHARE", share)
        patch.setattr(dot, "dot_cost", free)  # other ways are cheaper for so small layers
        net = pooled_ramp_net(seed)
        assert any("dot_listed" in text.decode() for name, text in emit(net).items() if name.endswith(".c"))
        check(net, cache, ("-O1", *STRICT, *UNDEFINED), n=5)
