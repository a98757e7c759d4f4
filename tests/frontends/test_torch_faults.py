"""What a whole model can do wrong: several faults at once, control flow, inputs, hooks, weights that are no numbers."""

import pytest

torch = pytest.importorskip("torch", reason="the torch frontend needs torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

import ttfsc.nn as tnn  # noqa: E402
from tests.frontends.test_torch_errors import CURVED, Net, line_of  # noqa: E402
from tests.frontends.torch_helpers import refusals, traced  # noqa: E402
from ttfsc.frontends.torch_rules import reason  # noqa: E402
from ttfsc.frontends.torch_trace import trace_module  # noqa: E402
from ttfsc.frontends.value import Declared  # noqa: E402
from ttfsc.ir import TtfsError  # noqa: E402

FILE = "test_torch_faults.py"


def test_every_fault_is_reported_at_once_and_none_twice() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.SiLU()

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.act(self.conv(x)))

    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), Block(), nn.GELU(), nn.Flatten(), nn.Linear(144, 5), nn.Sigmoid()
    )
    # What reads a refused value stays silent; a second branch is reported too.
    both = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), Two(nn.GELU(), nn.Tanh()), nn.Flatten(), nn.Linear(144, 5))
    where = f"{FILE}:{line_of(Block.forward) + 1} (2.act)"
    assert refusals(model) == [f"{where}: error[TTFS011]: 'torch.nn.SiLU': {CURVED}"]
    line = line_of(Two.forward) + 1
    assert refusals(both) == [
        f"{FILE}:{line} (2.a): error[TTFS011]: 'torch.nn.GELU': {CURVED}",
        f"{FILE}:{line} (2.b): error[TTFS011]: 'torch.nn.Tanh': {CURVED}",
    ]


class Two(nn.Module):
    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


def test_control_flow_on_data_is_one_error_with_module_and_line() -> None:
    assert refusals(Branching()) == [
        f"{FILE}:{line_of(Inner.forward) + 1} (inner): error[TTFS011]: forward decides by the data or the batch "
        "(symbolically traced variables cannot be used as inputs to control flow); a network of fixed connections "
        "cannot: compute with layers only, flatten with torch.flatten(x, 1)"
    ]


def test_an_error_of_forward_itself() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return self.missing(x)  # pyright: ignore

    assert refusals(Wrong()) == [
        f"{FILE}:{line_of(Wrong.forward) + 1} (forward): error[TTFS011]: forward fails on a symbolic input: "
        "AttributeError: 'Wrong' object has no attribute 'missing'"
    ]


def test_a_layer_that_is_no_attribute() -> None:
    layer = nn.Conv2d(2, 4, 3)

    class Hidden(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layer(x)

    assert refusals(Hidden()) == [
        f"{FILE}:{line_of(Hidden.forward) + 1} (forward): error[TTFS011]: forward calls a torch.nn.Conv2d that is no "
        "attribute of the model, so its weights are unknown; assign it in __init__"
    ]


def test_two_inputs() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    assert refusals(Pair()) == [
        "forward: error[TTFS011]: forward takes 2 inputs (x, y), must be one image; give the others default values"
    ]


def test_hooks_are_not_passed_over() -> None:
    with pytest.warns(FutureWarning):
        conv = torch.nn.utils.weight_norm(nn.Conv2d(2, 4, 3))
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    assert refusals(model) == [
        "0: error[TTFS011]: 'torch.nn.Conv2d': has forward hooks, which change its result unseen; remove "
        "them (weight and spectral norm: use torch.nn.utils.parametrizations, which needs none)"
    ]


@pytest.mark.parametrize(
    ("declared", "missing"),
    [
        (Declared(), "--input-shape 1x28x28, --input-range 0..255, --input-scale 0.0039"),
        (Declared((2, 8, 8)), "--input-range 0..255, --input-scale 0.0039"),
        (Declared((2, 8, 8), (0, 255)), "--input-scale 0.0039"),
    ],
)
def test_an_input_that_nobody_declares(declared: Declared, missing: str) -> None:
    with pytest.raises(TtfsError) as e:
        trace_module(Net().eval(), "m", declared)
    assert str(e.value).split(": ", 1)[1] == (
        f"error[TTFS015]: 'torch.nn.Conv2d': the model does not say what its input is; give {missing} "
        "(real value = integer * scale), or begin the model with ttfsc.nn.Input"
    )


@pytest.mark.parametrize(
    ("declared", "fact"),
    [
        (Declared((2, 8), (0, 1), 1.0), "the input is 2x8; must be channels x height x width, or features"),
        (Declared((2, 8, 8), (5, 5), 1.0), "range 5..5 must rise and lie inside -32768..65535"),
        (Declared((2, 8, 8), (0, 255), 0.0), "scale is 0.0, must be a positive number"),
        (Declared((3, 8, 8), (0, 255), 1.0),
        "@conv.weight is 4x2x3x3 in 1 groups: wants 2 input channels and an output count divisible by the "
        "groups, %input has 3 channels"
),
    ],
)  # fmt: skip
def test_an_input_that_cannot_be(declared: Declared, fact: str) -> None:
    with pytest.raises(TtfsError) as e:
        trace_module(Net().eval(), "m", declared)
    assert [f.fact for f in e.value.faults] == [fact]


def test_an_input_declared_twice_and_differently() -> None:
    model = nn.Sequential(tnn.Input((2, 8, 8)), nn.Flatten(), nn.Linear(128, 5)).eval()
    with pytest.raises(TtfsError) as e:
        trace_module(model, "m", Declared((2, 8, 9), (0, 255)))
    assert str(e.value) == (
        "0: error[TTFS011]: 'ttfsc.nn.Input': the model says (2, 8, 8) about its input, --input-shape says "
        "(2, 8, 9); leave the option out"
    )


def test_weights_that_are_not_finite_name_their_layer() -> None:
    model = Net()
    model.conv.weight.data[1, 0, 2, 2] = float("nan")
    model.head.bias.data[:] = float("inf")
    messages = refusals(model)
    assert [m.split(": ", 1)[1] for m in messages] == [
        "error[TTFS008]: 'conv2d' %conv: @conv.weight holds 1 values that are NaN or infinite, the first "
        "at [1, 0, 2, 2]",
        "error[TTFS008]: 'dense' %head: @head.bias holds 5 values that are NaN or infinite, the first at [0]",
    ]
    assert [m.split(" (")[1].split(")")[0] for m in messages] == ["conv", "head"]


def test_a_functional_relu_is_never_dropped() -> None:
    kept = [op.mnemonic for op in traced(Net(F.relu), (2, 8, 8)).ops].count("fire")
    assert kept == 1  # the second ReLU changes nothing on spikes, the first is there


def test_reasons_are_found_under_every_spelling() -> None:
    assert reason("torch.nn.GELU") == reason("aten.gelu") == reason("torch.nn.functional.gelu") == CURVED
    assert reason("aten.layer_norm") == reason("torch.nn.LayerNorm") != reason("torch.nn.Bilinear")
