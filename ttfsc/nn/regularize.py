"""Loss terms that make a network cheaper to run: fewer spikes, fewer packets, and no neuron lost for good.

A neuron with membrane V(u) = S + W u (W = 0 for `hold`) under the threshold theta (1 - u) fires if V reaches it at any
tick u = n/T, n = 0..T-1. Their difference is linear in u, so it is largest at one end, and the neuron fires where its
margin

    m = max(S - theta,  S + W (T - 1)/T - theta/T)        on T ticks
    m = max(S - theta,  S + W)                            in free time

is not negative (in free time: positive). fired = [m >= 0] is a step; for the gradient a triangle stands in for it,

    d fired / dm  :=  max(0, 1 - |m| / r) / r,    r = width * theta

(piecewise linear surrogate, as Esser et al., PNAS 2016, and Bellec et al., NeurIPS 2018): it acts on neurons within r
of firing and leaves those that are far above or below alone. The value is the exact count.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ttfsc.nn.fire import Fire
from ttfsc.nn.pool import AvgPool2d, Flatten, MaxPool2d
from ttfsc.nn.residual import Residual
from ttfsc.nn.spikes import Potential, Spikes, per_channel
from ttfsc.nn.synapse import Synapse


class Cost(NamedTuple):
    """What one forward pass costs, as scalars to be weighted and added to a loss.

    `spikes_per_neuron`: spikes of an input over the neurons that can fire, mean over the batch.
    `packets_per_frame`: sum over spikes of the destinations of the neuron that fired, mean over the batch.
    """

    spikes_per_neuron: Tensor
    packets_per_frame: Tensor


class _Fired(torch.autograd.Function):
    """(margin, whether it fired, reach r) -> 1 or 0, with the triangle as its derivative by the margin."""

    @staticmethod
    def forward(ctx: Any, margin: Tensor, fired: Tensor, reach: Tensor) -> Tensor:
        ctx.save_for_backward(margin, reach)
        return fired.to(margin.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        margin, reach = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        return cast("Tensor", grads[0]) * (1 - margin.abs() / reach).clamp_min(0) / reach, None, None


_fired = cast("Callable[[Tensor, Tensor, Tensor], Tensor]", _Fired.apply)  # pyright: ignore[reportUnknownMemberType]


def margin(v: Tensor | Potential, theta: Tensor, ticks: int | None) -> Tensor:
    """How far the membranes `v` [N, C, ...] exceed the threshold at the tick where they do most; theta broadcasts."""
    s, w = v if isinstance(v, Potential) else (v, torch.zeros_like(v))
    last = s + w if ticks is None else s + w * ((ticks - 1) / ticks) - theta / ticks
    return torch.maximum(s - theta, last)


class SpikeCost:
    """Counts, differentiably, the spikes and packets of a model's forward passes.

        cost = regularize.SpikeCost(model)
        ...
        loss = criterion(model(pixels), labels) + 0.5 * cost.take().spikes_per_neuron

    `destinations`: for each Fire layer by its name, how many packets one spike of a neuron makes: a number or a tensor
    that broadcasts to the layer's neurons [C, ...]. For a mesh that is the number of cores it is sent to; the report of
    a compiled net has it per layer as packets over spikes. The default, `fan_out(model)`, is one per synapse, which
    makes packets the synaptic operations. A layer that `destinations` does not name sends none.
    `width`: reach of the surrogate gradient, in units of theta.
    """

    def __init__(
        self, model: nn.Module, destinations: Mapping[str, float | Tensor] | None = None, width: float = 1.0
    ) -> None:
        if not width > 0:
            raise ValueError(f"width is {width}, but the gradient reaches a positive distance")
        modules = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
        layers = {name: m for name, m in modules if isinstance(m, Fire)}
        unknown = sorted(set(destinations or {}) - set(layers))
        if unknown or not layers:
            fact = f"no Fire layer is called {', '.join(unknown)}" if unknown else "the model has no Fire layer"
            raise ValueError(f"{fact}; it has {', '.join(layers) or 'none'}")
        if destinations is None:
            destinations = fan_out(model) if isinstance(model, nn.Sequential) else {}
        self.width = width
        self._spikes: list[Tensor] = []
        self._packets: list[Tensor] = []
        self._neurons = 0
        self._handles = [m.register_forward_hook(self._counter(destinations.get(n, 0.0))) for n, m in layers.items()]

    def _counter(self, destinations: float | Tensor) -> Callable[[nn.Module, Any, Any], None]:
        def count(layer: nn.Module, args: Any, out: Tensor | Spikes) -> None:
            assert isinstance(layer, Fire)
            v = cast("Tensor | Potential", args[0])
            value = (out.value if isinstance(out, Spikes) else out).detach()
            theta = per_channel(layer.threshold().detach(), value.dim())
            fired = _fired(margin(v, theta, layer.ticks).float(), value > 0, self.width * theta)
            send = destinations.to(fired.device) if isinstance(destinations, Tensor) else destinations
            self._spikes.append(fired.sum() / len(value))
            self._packets.append((fired * send).sum() / len(value))
            self._neurons += value[0].numel()

        return count

    def take(self) -> Cost:
        """The cost of the forward passes since the last call; ValueError where there was none."""
        if not self._spikes:
            raise ValueError("no forward pass since the last call: there is nothing to count")
        cost = Cost(torch.stack(self._spikes).sum() / self._neurons, torch.stack(self._packets).sum())
        self._spikes.clear()
        self._packets.clear()
        self._neurons = 0
        return cost

    def close(self) -> None:
        """Stop counting: take the hooks off the model."""
        for handle in self._handles:
            handle.remove()


def fan_out(model: nn.Sequential) -> dict[str, Tensor]:
    """Per Fire layer the synapses each of its neurons [C, ...] reaches: its additions per spike, inside borders.

    The model starts with an `Input`, which knows the shape. A spike in two overlapping windows of an average pool
    counts twice, as in the report; behind a max pool every neuron counts as if it were the earliest.
    """
    shapes = _shapes(model)
    return {name: _synapses(torch.ones(1, *shapes[name], requires_grad=True), behind) for name, behind in _fires(model)}


def _fires(model: nn.Sequential, prefix: str = "") -> Iterable[tuple[str, list[nn.Module]]]:
    """Each Fire layer by its name, and the layers behind it, those in residual blocks included."""
    layers = list(model.named_children())
    for i, (name, layer) in enumerate(layers):
        if isinstance(layer, Fire):
            yield prefix + name, [each for _, each in layers[i + 1 :]]
        elif isinstance(layer, Residual):
            yield from _fires(layer.main, f"{prefix}{name}.main.")


def _shapes(model: nn.Sequential) -> dict[str, tuple[int, ...]]:
    """What each Fire layer gives, without the batch."""
    first = next(iter(model), None)
    shape = getattr(first, "shape", None)
    if not isinstance(shape, tuple):
        raise ValueError("the model does not start with an Input, so the sizes of its layers are not known")
    weight = next(model.parameters())
    x = torch.zeros(1, *cast("tuple[int, ...]", shape), device=weight.device)
    was_training = model.training
    model.eval()
    shapes = dict[str, tuple[int, ...]]()
    with torch.no_grad():
        _pass(model, x, "", shapes)
    model.train(was_training)
    return shapes


def _pass(model: nn.Sequential, x: Any, prefix: str, shapes: dict[str, tuple[int, ...]]) -> Any:
    """The model's forward pass without hooks, since nobody is to count it; notes what each Fire layer gives."""
    for name, layer in model.named_children():
        if isinstance(layer, Residual):
            x = layer.add.forward(_pass(layer.main, x, f"{prefix}{name}.main.", shapes), layer.shortcut.forward(x))
        else:
            x = layer.forward(x)
        if isinstance(layer, Fire):
            shapes[prefix + name] = tuple((x.value if isinstance(x, Spikes) else x).shape[1:])
    return x


def _synapses(start: Tensor, behind: Sequence[nn.Module]) -> Tensor:
    """How often each entry of `start` [1, ...] is added somewhere in the next synapse layer of `behind`."""
    x = start
    for i, layer in enumerate(behind):
        if isinstance(layer, Residual):
            branches = ([*layer.main], [layer.shortcut])
            return sum((_synapses(start, [*behind[:i], *branch]) for branch in branches), torch.zeros_like(start[0]))
        if isinstance(layer, Synapse):
            layer_sum = layer.apply_weight(x, torch.ones_like(layer.weight, device=x.device), None).sum()
            return torch.autograd.grad(layer_sum, start)[0][0]
        if isinstance(layer, (AvgPool2d, MaxPool2d)):
            x = functional.avg_pool2d(
                x, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, divisor_override=1
            )
        elif isinstance(layer, Flatten):
            x = x.flatten(1)
        else:
            break
    return torch.zeros_like(start[0])  # a read-out: its spikes go to the host


class LostChannels:
    """Penalty on channels that no input of the batch makes fire: such neurons have no other gradient.

    A neuron can fire where S + W > 0 and theta + W > 0, or S >= theta, so a channel is as alive as its largest
    min(S, theta) + W; what that lacks to `reserve` (in units of theta) is the penalty, mean over channels, sum over
    layers. Watches the synapses and residual blocks that stand directly before a Fire in a Sequential.
    """

    def __init__(self, model: nn.Sequential, reserve: float = 0.1) -> None:
        self._terms: list[Tensor] = []
        rows = [m for m in model.modules() if isinstance(m, nn.Sequential)]
        for before, after in itertools.chain.from_iterable(map(itertools.pairwise, rows)):
            if isinstance(before, (Synapse, Residual)) and isinstance(after, Fire):
                before.register_forward_hook(self._watch(after, reserve))

    def _watch(self, fire: Fire, reserve: float) -> Callable[[nn.Module, Any, Any], None]:
        def note(_module: nn.Module, _args: Any, v: Tensor | Potential) -> None:
            theta = fire.threshold().detach()
            s = v.s if isinstance(v, Potential) else v
            alive = torch.minimum(s, per_channel(theta, s.dim())) + v.w if isinstance(v, Potential) else s
            most = alive.transpose(0, 1).flatten(1).amax(1)
            self._terms.append((reserve - most / theta).relu().mean())

        return note

    def take(self) -> Tensor:
        """The penalty of the batch since the last call, a scalar; 0 where nothing is watched."""
        total = torch.stack(self._terms).sum() if self._terms else torch.zeros(())
        self._terms.clear()
        return total
