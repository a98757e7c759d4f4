"""drop-identity: what does nothing goes, and nothing else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.nets import Maker, assert_same_function
from ttfsc.ir import Flatten, Identity
from ttfsc.passes import drop_identity


def test_identities_and_second_flattens_go() -> None:
    m = Maker()
    a = m.identity("i2", m.identity("i1", m.fire("a", m.identity("i0", m.conv("c", "in", 2)), 1.0)))
    net = m.answer(m.dense("d", m.flatten("f3", m.flatten("f2", m.identity("i3", m.flatten("f1", a)))), 3))
    after = drop_identity(net)
    assert [op.name for op in after.ops] == ["in", "c", "a", "f1", "d", "out"]
    assert_same_function(net, after, m.pixels())


def test_a_flatten_that_reshapes_stays() -> None:
    m = Maker((3, 1, 1))
    net = m.answer(m.dense("d", m.flatten("f", "in"), 2))
    assert drop_identity(net) == net


@given(st.lists(st.booleans(), min_size=1, max_size=5), st.integers(0, 99))
@settings(max_examples=20)
def test_any_number_of_them(drops: list[bool], seed: int) -> None:
    m = Maker(seed=seed)
    x = "in"
    for i, drop in enumerate(drops):
        x = m.fire(f"a{i}", m.conv(f"c{i}", x, 2, 1), 1.0)
        x = m.identity(f"i{i}", x) if drop else x
    net = m.answer(m.dense("d", m.flatten("f", x), 2))
    after = drop_identity(net)
    assert len(net.ops) - len(after.ops) == sum(drops)
    assert not any(isinstance(op, Identity) for op in after.ops)
    assert sum(isinstance(op, Flatten) for op in after.ops) == 1
    assert_same_function(net, after, m.pixels())
