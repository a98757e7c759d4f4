"""Every rule of the table, judged by torch: a small module with it, imported and run as a real net."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch frontend needs torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

from tests.frontends.torch_helpers import SCALE, assert_same, pixels, traced  # noqa: E402
from ttfsc.frontends.torch_rules import RULES  # noqa: E402
from ttfsc.ir import Add, AvgPool, Conv2d, Decode, Fire, MaxPool, parse, run, show  # noqa: E402

SHAPE = (2, 8, 8)


def _iadd(x: Tensor) -> Tensor:
    y = x.clone()
    y += x
    return y


def _softmax(x: Tensor) -> Tensor:
    return F.softmax(x, 1)


def _log_softmax(x: Tensor) -> Tensor:
    return torch.log_softmax(x, dim=1)


def _by_place(x: Tensor) -> Tensor:
    return F.relu(x, True)


def _by_name(x: Tensor) -> Tensor:
    return F.relu(x, inplace=True)


class Body(nn.Module):
    """conv, then `middle`, then flatten and a dense layer that fits."""

    def __init__(self, middle: Callable[[Tensor], Tensor], *, relu: bool = True, features: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.middle, self.relu = middle, relu
        x = torch.zeros(1, 4, 8, 8)
        self.head = nn.Linear(self.middle(x).flatten(1).shape[1], features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.middle(F.relu(x) if self.relu else x)
        return self.head(torch.flatten(x, 1))


def module(m: nn.Module) -> Callable[[Tensor], Tensor]:
    return m.eval()


SPIKES: dict[str, Callable[[Tensor], Tensor]] = {
    "Conv2d": module(nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.ReLU())),
    "Conv2d dilated": module(nn.Sequential(nn.Conv2d(4, 6, (3, 2), padding=(2, 1), dilation=2, bias=False), nn.ReLU())),
    "Conv2d same": module(nn.Sequential(nn.Conv2d(4, 6, 4, padding="same"), nn.ReLU())),
    "Conv2d valid": module(nn.Sequential(nn.Conv2d(4, 6, 4, padding="valid"), nn.ReLU())),
    "depthwise": module(nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.ReLU())),
    "BatchNorm2d": module(nn.BatchNorm2d(4)),
    "BatchNorm2d affine=False": module(nn.BatchNorm2d(4, affine=False)),
    "BatchNorm before ReLU": module(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())),
    "BatchNorm1d": module(nn.Sequential(nn.Flatten(), nn.Linear(256, 7), nn.BatchNorm1d(7), nn.ReLU())),
    "ReLU6": module(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU6())),
    "Hardtanh": module(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Hardtanh(0, 0.5))),
    "LeakyReLU(0)": module(nn.Sequential(nn.Conv2d(4, 4, 3), nn.LeakyReLU(0))),
    "Threshold": module(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Threshold(0, 0))),
    "MaxPool2d": module(nn.MaxPool2d(3, 2, 1)),
    "MaxPool2d ceil": module(nn.MaxPool2d(3, 2, ceil_mode=True)),
    "AvgPool2d": module(nn.AvgPool2d(2)),
    "AvgPool2d padded": module(nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "AvgPool2d ceil": module(nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    "AdaptiveAvgPool2d": module(nn.AdaptiveAvgPool2d(1)),
    "AdaptiveAvgPool2d 4x2": module(nn.AdaptiveAvgPool2d((4, 2))),
    "AdaptiveAvgPool2d none": module(nn.AdaptiveAvgPool2d((None, 2))),  # pyright: ignore[reportArgumentType]
    "Dropout": module(nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.Identity(), nn.AlphaDropout())),
    "ZeroPad2d": module(nn.Sequential(nn.ZeroPad2d((1, 2, 3, 0)), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())),
    "F.relu twice": F.relu,
    "torch.relu": torch.relu,
    "x.relu": lambda x: x.relu(),
    "F.relu6": lambda x: F.relu6(x - 0.1),
    "F.hardtanh": lambda x: F.hardtanh(x, 0, 0.3),
    "clamp": lambda x: x.clamp(0, 0.25),
    "clamp min": lambda x: torch.clamp(x - 0.2, min=0),
    "clip": lambda x: torch.clip(x, 0.0, 0.5),
    "F.leaky_relu": lambda x: F.leaky_relu(x - 0.2, 0.0),
    "F.threshold": lambda x: F.threshold(x - 0.2, 0, 0),
    "F.max_pool2d": lambda x: F.max_pool2d(x, 2),
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, (2, 1), stride=(1, 2)),
    "F.avg_pool2d": lambda x: F.avg_pool2d(x, (2, 3), stride=2, padding=(1, 0)),
    "F.avg_pool2d divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=4, count_include_pad=False),
    "F.adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, 2)),
    "mean": lambda x: x.mean((2, 3)),
    "mean keepdim": lambda x: torch.mean(x, dim=[-1, -2], keepdim=True),
    "view size": lambda x: x.view(x.size(0), -1),
    "view shape": lambda x: x.view(x.shape[0], 256),
    "view -1": lambda x: x.view(-1, 256),
    "view computed": lambda x: x.view(-1, x.size(1) * x.size(2) * x.size(3)),
    "reshape": lambda x: torch.reshape(x, (x.size()[0], -1)),
    "reshape nothing": lambda x: x.reshape(-1, 4, 8, 8),
    "flatten method": lambda x: x.flatten(1),
    "flatten -3": lambda x: x.flatten(-3, -1),
    "squeeze": lambda x: x.mean((2, 3), True).squeeze((2, 3)),
    "F.dropout": lambda x: F.dropout(x, 0.5, training=False),
    "contiguous": lambda x: x.contiguous().float().clone().detach(),
    "add": lambda x: torch.add(x, x),
    "operator.add": lambda x: operator.add(x, F.max_pool2d(x, 3, 1, 1)),
    "iadd": _iadd,
    "x.add": lambda x: x.add(x),
    "add constant": lambda x: F.relu(x + 0.5 - 0.25),
    "mul constant": lambda x: 2 * x * 0.25,
    "div constant": lambda x: x / 4,
    "F.pad": lambda x: F.conv2d(F.pad(x, (1, 0, 2, 1)), torch.ones(3, 4, 2, 2) / 9).relu(),
    "F.linear": lambda x: F.linear(x.flatten(1), torch.linspace(-1, 1, 512).reshape(2, 256)).relu(),
    "F.batch_norm": lambda x: F.batch_norm(x, torch.ones(4), torch.full((4,), 2.0), eps=1e-3),
}  # fmt: skip
MEMBRANES: dict[str, Callable[[Tensor], Tensor]] = {
    "maxpool before relu": lambda x: F.relu(F.max_pool2d(x, 3, 2, 1)),
    "maxpool flatten relu": lambda x: F.relu(F.max_pool2d(x, 2).flatten(1)),
    "maxpool batchnorm relu": module(nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU())),
    "two maxpools dropout relu": module(nn.Sequential(nn.MaxPool2d(2), nn.Dropout(), nn.MaxPool2d(2), nn.ReLU())),
    "avgpool before relu": lambda x: F.relu(F.avg_pool2d(x, 3, 2)),
    "batchnorm avgpool relu": module(nn.Sequential(nn.BatchNorm2d(4), nn.AvgPool2d(2), nn.ReLU())),
    "skip": lambda x: F.relu(F.relu(x) + x),
    "skip of sum": lambda x: F.relu((x + F.relu(x)).relu() + x.clamp(0, 0.2)),
    "sum of activations": lambda x: F.relu(x) + x.clamp(0, 0.2),
    "pooled sum of activations": lambda x: F.max_pool2d(F.relu(x) + x.clamp(0, 0.2), 2),
    "averaged sum of activations": lambda x: F.avg_pool2d(F.relu(x) + x.clamp(0, 0.2), 2),
    "largest of averages": lambda x: F.max_pool2d(F.avg_pool2d(F.relu(x), 2), 3, 2, 1),
    "largest of normalised": lambda x: F.max_pool2d(F.relu(x) * 2 - 0.1, 3, 2, 1),
    "constants": lambda x: F.relu(x * 0.5 + torch.tensor([0.1, 0.2, 0.3, -0.4]).reshape(1, 4, 1, 1)),
}


@pytest.mark.parametrize("name", SPIKES)
def test_behind_an_activation(name: str) -> None:
    assert_same(Body(SPIKES[name]), SHAPE)


@pytest.mark.parametrize("name", MEMBRANES)
def test_behind_a_synapse(name: str) -> None:
    assert_same(Body(MEMBRANES[name], relu=False), SHAPE)


@pytest.mark.parametrize(
    "tail",
    [nn.Softmax(1), nn.LogSoftmax(-1), _softmax, _log_softmax, nn.ReLU()],
    ids=["Softmax", "LogSoftmax", "F.softmax", "torch.log_softmax", "ReLU"],
)
def test_ops_at_the_end_leave_the_scores_alone(tail: Callable[[Tensor], Tensor]) -> None:
    class Tailed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.tail = Body(F.relu), tail

        def forward(self, x: Tensor) -> Tensor:
            return self.tail(self.body(x))

    torch.manual_seed(0)
    model = Tailed().eval()
    x = pixels(SHAPE)
    with torch.no_grad():
        want = model.body(torch.tensor(x, dtype=torch.float32) * SCALE).numpy()
    np.testing.assert_allclose(run(traced(model, SHAPE), x).scores, want, atol=1e-4, rtol=1e-4)


def test_argmax_at_the_end_is_the_label() -> None:
    class Labels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Body(F.relu)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).argmax(1)

    model = Labels().eval()
    x = pixels(SHAPE, n=16)
    want = model(torch.tensor(x, dtype=torch.float32) * SCALE).numpy()
    assert len(np.unique(want)) > 1
    np.testing.assert_array_equal(run(traced(model, SHAPE), x).labels, want)


def test_relu6_is_a_threshold_and_its_readers_are_scaled() -> None:
    net = assert_same(Body(module(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.AvgPool2d(2)))), SHAPE)
    fires = [op for op in net.ops if isinstance(op, Fire)]
    assert [None if f.theta is None else net.arrays[f.theta].tolist() for f in fires] == [None, [6.0]]


def test_a_maxpool_before_the_relu_pools_spikes() -> None:
    net = assert_same(Body(lambda x: F.relu(F.max_pool2d(x, 2)), relu=False), SHAPE)
    assert [type(op) for op in net.ops[2:4]] == [Fire, MaxPool]


def test_a_skip_is_a_depthwise_synapse_of_ones() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(144, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.a(x))
            return self.head(F.relu(self.b(x) + x).flatten(1))

    net = assert_same(Residual(), SHAPE)
    (add,) = (op for op in net.ops if isinstance(op, Add))
    skip = net.by_name[add.xs[1]]
    assert isinstance(skip, Conv2d) and skip.groups == 4
    assert net.arrays[skip.w].tolist() == [[[[1.0]]]] * 4


def test_global_average_over_a_pointwise_convolution_moves_in_front_of_it() -> None:
    class AllConv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.adaptive_avg_pool2d(self.b(F.relu(self.a(x))), 1).flatten(1)

    net = assert_same(AllConv(), SHAPE)
    pool = next(i for i, op in enumerate(net.ops) if isinstance(op, AvgPool))
    assert isinstance(net.ops[pool + 1], Conv2d)


def test_a_final_average_of_spikes_is_read_by_a_synapse_of_ones() -> None:
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = assert_same(model, SHAPE)
    assert isinstance(net.answer, Decode) and net.answer.rule == "membrane"


def test_a_module_used_twice_shares_its_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(144, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.b(F.relu(self.b(F.relu(self.a(x))))))
            return self.head(x.flatten(1))

    net = assert_same(Twice(), SHAPE)
    assert [op.w for op in net.ops if isinstance(op, Conv2d)] == ["a.weight", "b.weight", "b.weight"]


class InPlace(nn.Module):
    """The skip is read after a ReLU changed it in place: what torch adds is the activation."""

    def __init__(self, relu: Any) -> None:
        super().__init__()
        self.a, self.b, self.head, self.act = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(144, 3), relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        same = x.contiguous()
        y = self.b(self.act(x))
        y += same
        z = F.relu(y)
        return self.head(z.flatten(1))


@pytest.mark.parametrize(
    "relu",
    [nn.ReLU(inplace=True), _by_place, _by_name, torch.relu_, nn.ReLU()],
    ids=["module", "positional", "keyword", "relu_", "not in place"],
)
def test_in_place_changes_reach_later_readers(relu: Any) -> None:
    assert_same(InPlace(relu), SHAPE)


def test_heads_that_do_not_reach_the_output_are_left_out() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.branch = Body(F.relu), nn.Sequential(nn.Conv2d(2, 3, 3), nn.GELU(), nn.LayerNorm(6))

        def forward(self, x: Tensor) -> Tensor:
            self.branch(x)
            return self.body(x)

    net = assert_same(Heads(), SHAPE)
    assert not [op.name for op in net.ops if op.name.startswith("branch")]
    assert not [name for name in net.arrays if name.startswith("branch")]


def test_parametrised_weights_are_taken_as_they_work_out() -> None:
    conv = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3))
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    with torch.no_grad():
        conv.parametrizations.weight.original0.mul_(3.0)  # pyright: ignore
        x = pixels(SHAPE)
        want = model(torch.tensor(x, dtype=torch.float32) * SCALE).numpy()
    np.testing.assert_allclose(run(traced(model, SHAPE), x).scores, want, atol=1e-4, rtol=1e-4)


def test_names_say_where_an_op_comes_from() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.conv(x))

    net = traced(nn.Sequential(Block(), nn.Flatten(), nn.Linear(144, 3)), SHAPE)
    assert [(op.name, op.loc.origin) for op in net.ops] == [
        ("input", "input"), ("0.conv", "0.conv"), ("0.relu", "0"), ("1", "1"), ("2", "2"), ("output", "output"),
    ]  # fmt: skip
    assert net.by_name["0.relu"].loc.file == "test_torch_ops.py" and net.by_name["0.relu"].loc.line > 0


def test_every_rule_of_a_module_function_or_method_names_something_real() -> None:
    from ttfsc.frontends.torch_trace import resolve

    for name, rule in RULES.items():
        match rule.kind_of(name):
            case "method":
                assert hasattr(Tensor, name.removeprefix("Tensor.")), name
            case "aten":
                assert hasattr(torch.ops.aten, name.split(".")[1]), name
            case "module":
                assert isinstance(resolve(name), type), name
            case _:
                assert callable(resolve(name)), name


def test_asserts_on_shapes_are_no_control_flow() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Body(F.relu)

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1] == 2
            return self.body(x)

    assert_same(Careful(), SHAPE)


def test_names_that_the_text_form_cannot_hold_are_tidied() -> None:
    layers = nn.ModuleDict({"größe 1": nn.Conv2d(2, 4, 3), "-": nn.Linear(144, 3)})

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: Tensor) -> Tensor:
            return self.layers["-"](F.relu(self.layers["größe 1"](x)).flatten(1))

    net = assert_same(Named(), SHAPE)
    assert parse(show(net, hashes=True), net.arrays, source="x.ttfs") == net
    assert [op.loc.origin for op in net.ops if isinstance(op, Conv2d)] == ["layers.größe 1"]
