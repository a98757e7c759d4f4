"""The training loop: augmentation, AdamW on a cosine, weight average, checkpoints, validation in integer arithmetic."""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

import ttfsc.nn as tnn
from examples.training.data import Images
from examples.training.recipe import Recipe
from ttfsc.nn import regularize

WARM_UP = 200  # steps
ALWAYS = 5  # last epochs, each of which is validated
console = Console(width=140)


def deployed(model: nn.Sequential, recipe: Recipe) -> nn.Sequential:
    """A copy as it is compiled: batch norms folded, in evaluation mode. A teacher keeps its batch norms."""
    return (tnn.fold_batchnorm(model) if recipe.builder else copy.deepcopy(model)).eval()


@torch.no_grad()
def evaluate(model: nn.Sequential, images: Images, batch: int = 250) -> tuple[float, float]:
    """Accuracy in percent and spikes per neuron of a net in evaluation mode: integer arithmetic, as compiled."""
    device = next(model.parameters()).device
    spikes, neurons, right = 0, 0, 0

    def count(_module: nn.Module, _args: Any, out: Tensor | tnn.Spikes) -> None:
        nonlocal spikes, neurons
        value = out.value if isinstance(out, tnn.Spikes) else out
        spikes, neurons = spikes + int((value > 0).sum()), neurons + value.numel()

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, tnn.Fire)]
    for start in range(0, len(images.x), batch):
        scores = model(images.x[start : start + batch].to(device))
        right += int((scores.argmax(1).cpu() == images.y[start : start + batch]).sum())
    for handle in handles:
        handle.remove()
    return 100 * right / len(images.x), spikes / max(1, neurons)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Weights decay, the rest does not; weight steps, which are small numbers, learn at a twentieth of the rate."""
    kinds = (tnn.Synapse, nn.Conv2d, nn.Linear)
    weights = [m.weight for m in model.modules() if isinstance(m, kinds)]
    steps = [m.step for m in model.modules() if isinstance(m, tnn.Synapse) and m.step is not None]
    rest = [p for p in model.parameters() if all(p is not known for known in (*weights, *steps))]
    return [
        {"params": weights, "peak": recipe.lr, "weight_decay": recipe.weight_decay},
        {"params": steps, "peak": recipe.lr / 20, "weight_decay": 0.0},
        {"params": rest, "peak": recipe.lr, "weight_decay": 0.0},
    ]


class Objective:
    """The loss of a batch: cross-entropy, distillation, cost of spikes, and lost channels."""

    def __init__(self, model: nn.Sequential, recipe: Recipe, teachers: Sequence[nn.Module]) -> None:
        self.recipe, self.teachers = recipe, teachers
        self.lost = regularize.LostChannels(model) if recipe.lost else None
        self.cost = regularize.SpikeCost(model) if recipe.spikes or recipe.packets else None
        self.synapses = sum(float(n.sum()) for n in regularize.fan_out(model).values()) if recipe.packets else 1.0

    def __call__(self, scores: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        recipe, scores = self.recipe, scores.float()
        loss = functional.cross_entropy(scores, labels, label_smoothing=recipe.smoothing)
        if self.teachers:
            loss = (1 - recipe.distil) * loss + recipe.distil * self.from_teachers(scores, pixels)
        if self.lost is not None:
            loss = loss + recipe.lost * self.lost.take()
        if self.cost is not None:
            cost = self.cost.take()
            loss = loss + recipe.spikes * (cost.spikes_per_neuron - recipe.goal).relu()
            loss = loss + recipe.packets * cost.packets_per_frame / self.synapses
        return loss

    def from_teachers(self, scores: Tensor, pixels: Tensor) -> Tensor:
        """Divergence from the teachers' mean answer, both softened (Hinton et al. 2015): t^2 KL(teacher || student).

        The teachers answer in half precision, as they were trained.
        """
        t = self.recipe.temperature
        with torch.no_grad(), torch.autocast(pixels.device.type, torch.bfloat16):
            answers = torch.stack([(teacher(pixels).float() / t).softmax(1) for teacher in self.teachers]).mean(0)
        return t * t * functional.kl_div((scores / t).log_softmax(1), answers, reduction="batchmean")


class Training:
    """Model, its moving average, optimizer, and everything a resumed run needs."""

    def __init__(
        self,
        recipe: Recipe,
        train: Images,
        device: torch.device,
        *,
        teachers: Sequence[nn.Module] = (),
        start: Mapping[str, Tensor] | None = None,
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(recipe.seed)  # pyright: ignore[reportUnknownMemberType]
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        self.train = Images(train.x.to(device), train.y.to(device))
        self.model = recipe.build(recipe.bits or None, recipe.ticks or None).to(device)
        if start is not None:
            self.model.load_state_dict(start)
        elif recipe.fraction:
            tnn.calibrate(self.model, self.train.x[:1000], recipe.fraction, recipe.spread)
        # Convolutions and pools of many channels run twice as fast with the channels of a pixel side by side.
        for net in (self.model, *teachers):
            net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.average = copy.deepcopy(self.model)
        self.ranges = tnn.RangeAnnealing(self.model, recipe.widen)
        self.objective = Objective(self.model, recipe, teachers)
        if compiled:
            self.model.compile()  # pyright: ignore[reportUnknownMemberType]
        self.epoch, self.updates, self.best = 0, 0, -1.0
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, recipe), lr=recipe.lr)

    def tensors(self) -> dict[str, Tensor]:
        """Everything as named tensors: what a checkpoint holds."""
        state = self.optimizer.state
        named = ((name, state[p]) for name, p in self.model.named_parameters() if p in state)
        moments = {f"adam.{name}.{key}": moment for name, entry in named for key, moment in entry.items()}
        return {
            **{f"model.{k}": v for k, v in self.model.state_dict().items()},
            **{f"average.{k}": v for k, v in self.average.state_dict().items()},
            **moments,
            "epoch": torch.tensor(self.epoch),
            "best": torch.tensor(self.best, dtype=torch.float64),
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
        }

    @torch.no_grad()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint's tensors; KeyError or RuntimeError where they are not this net's."""
        for prefix, module in (("model.", self.model), ("average.", self.average)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)})
        for name, p in self.model.named_parameters():
            moments = {key: saved[f"adam.{name}.{key}"] for key in ("exp_avg", "exp_avg_sq")}
            in_place = {key: torch.empty_like(p).copy_(moment) for key, moment in moments.items()}  # laid out as p is
            self.optimizer.state[p] = {"step": saved[f"adam.{name}.step"], **in_place}
        self.epoch, self.best = int(saved["epoch"]), float(saved["best"])
        self.updates = self.epoch * (len(self.train.x) // self.recipe.batch)
        self.rng.set_state(saved["rng"])
        torch.set_rng_state(saved["torch_rng"])

    def run_epoch(self) -> float:
        """One pass over the augmented training images; returns the mean loss."""
        self.model.train()
        order = torch.randperm(len(self.train.x), generator=self.rng).to(self.device)
        steps = len(order) // self.recipe.batch
        title = f"epoch {self.epoch + 1}/{self.recipe.epochs}"
        total = torch.zeros((), device=self.device)
        for step in track(range(steps), title, console=console, transient=True):
            self.set_rate(step, steps)
            batch = order[step * self.recipe.batch : (step + 1) * self.recipe.batch]
            total += self.step(self.train.x[batch], self.train.y[batch])
        if not math.isfinite(total.item()):
            raise FloatingPointError(f"epoch {self.epoch + 1}: the loss is {total.item()}; a lower --lr may help")
        self.epoch += 1
        return total.item() / steps

    def set_rate(self, step: int, steps: int) -> None:
        """Learning rates: a linear start, then half a cosine down to zero; and annealed ranges."""
        done = (self.epoch + step / steps) / self.recipe.epochs
        self.ranges.set(done)
        warm = min(1.0, (self.epoch * steps + step + 1) / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * warm * 0.5 * (1 + math.cos(math.pi * done))

    def step(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """One update by a batch; returns its loss, detached."""
        calm = self.epoch >= (1 - self.recipe.calm) * self.recipe.epochs
        for distort in self.recipe.augment[: 1 if calm else None]:
            pixels = distort(pixels, self.rng)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.half):
            loss = self.objective(self.model(pixels), pixels, labels)
        self.optimizer.zero_grad()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        self.follow()
        return loss.detach()

    @torch.no_grad()
    def follow(self) -> None:
        """Let the average follow the model, batch norms' statistics included; closely at first, to forget the start."""
        decay = min(self.recipe.average, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        pairs = zip(
            itertools.chain(self.average.parameters(), self.average.buffers()),
            itertools.chain(self.model.parameters(), self.model.buffers()),
            strict=True,
        )
        for mean, now in pairs:
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)
        for mean, now in zip(self.average.modules(), self.model.modules(), strict=True):
            if isinstance(mean, tnn.Fire) and isinstance(now, tnn.Fire) and not mean.learn_theta:
                mean.theta.copy_(now.theta)  # the range in force, whose average nobody trained with

    def validated(self) -> bool:
        """Whether the epoch that has just ended is one to be validated."""
        return self.epoch % self.recipe.every == 0 or self.epoch > self.recipe.epochs - ALWAYS
