"""Train the MNIST network of `network.py` with k-bit weights and T ticks, from scratch.

    python examples/mnist/train.py --data DIR --family exact_relu --out exact_relu.safetensors

The last 5,000 training images are kept apart for every choice (which epoch's weights to keep); the test set is
looked at once, at the end. A checkpoint beside --out lets --resume go on after an interruption. All files are
safetensors.
"""

import argparse
import copy
import itertools
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from data import BadDataError, augment, load
from network import NEURONS, dta, exact_relu
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.nn import functional

import ttfsc.nn as tnn

VALIDATION = 5_000  # images
WARM_UP = 200  # steps
console = Console(width=140)


def build(args: argparse.Namespace) -> nn.Sequential:
    """The chosen family's net."""
    return {"exact_relu": exact_relu, "dta": dta}[args.family](args.bits, args.ticks)


@torch.no_grad()
def evaluate(model: nn.Sequential, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Accuracy in percent and spikes per neuron of the net in integer arithmetic."""
    spikes, right = 0, 0

    def count(_module: nn.Module, _args: Any, out: Tensor | tnn.Spikes) -> None:
        nonlocal spikes
        value = out.value if isinstance(out, tnn.Spikes) else out
        spikes += int((value > 0).sum())

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, tnn.Fire)]
    for start in range(0, len(x), 500):
        right += int((model(x[start : start + 500]).argmax(1) == y[start : start + 500]).sum())
    for handle in handles:
        handle.remove()
    return 100 * right / len(x), spikes / len(x) / NEURONS


class Lost:
    """Penalty on hidden channels that no image of the batch makes fire: such a neuron has no other gradient.

    A neuron can fire where S + W > 0 and theta + W > 0 (W = 0 for `hold`), so a channel is as alive as its largest
    min(S, theta) + W; what this lacks to `margin` is the penalty, summed over layers. Every theta here is 1.
    """

    def __init__(self, model: nn.Sequential, margin: float = 0.1) -> None:
        self.margin = margin
        self.terms: list[Tensor] = []
        for before, after in itertools.pairwise(model):
            if isinstance(before, tnn.Synapse) and isinstance(after, tnn.Fire):
                before.register_forward_hook(self._note)

    def _note(self, _module: nn.Module, _args: Any, v: Tensor | tnn.Potential) -> None:
        alive = v.s.clamp_max(1) + v.w if isinstance(v, tnn.Potential) else v
        self.terms.append((self.margin - alive.transpose(0, 1).flatten(1).amax(1)).relu().mean())

    def take(self) -> Tensor:
        """The penalty of the batch since the last call."""
        total = torch.stack(self.terms).sum()
        self.terms.clear()
        return total


def parameter_groups(model: nn.Sequential, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Weights decay, the rest does not; weight steps, which are small numbers, learn at a twentieth of the rate."""
    synapses = [m for m in model.modules() if isinstance(m, tnn.Synapse)]
    weights = [m.weight for m in synapses]
    steps = [m.step for m in synapses if m.step is not None]
    rest = [p for p in model.parameters() if all(p is not known for known in (*weights, *steps))]
    return [
        {"params": weights, "peak": args.lr, "weight_decay": args.weight_decay},
        {"params": steps, "peak": args.lr / 20, "weight_decay": 0.0},
        {"params": rest, "peak": args.lr, "weight_decay": 0.0},
    ]


class Training:
    """Model, its moving average, AdamW, and everything a resumed run needs."""

    def __init__(self, args: argparse.Namespace, sample: Tensor) -> None:
        torch.manual_seed(args.seed)  # pyright: ignore[reportUnknownMemberType]
        self.rng = torch.Generator().manual_seed(args.seed)
        self.model = build(args)
        tnn.calibrate(self.model, sample, fraction=args.fraction, spread=args.spread)
        self.average = copy.deepcopy(self.model)
        self.lost = Lost(self.model)
        self.epoch, self.best = 0, -1.0
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, args))

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
        }

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint's tensors; KeyError or RuntimeError where they are not this net's."""
        for prefix, module in (("model.", self.model), ("average.", self.average)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)})
        for name, p in self.model.named_parameters():
            self.optimizer.state[p] = {key: saved[f"adam.{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        self.epoch, self.best = int(saved["epoch"]), float(saved["best"])
        self.rng.set_state(saved["rng"])

    def run_epoch(self, x: Tensor, y: Tensor, args: argparse.Namespace) -> float:
        """One pass over the augmented training images; returns the mean loss."""
        self.model.train()
        order = torch.randperm(len(x), generator=self.rng)
        steps = len(x) // args.batch
        total = 0.0
        for step in track(range(steps), f"epoch {self.epoch + 1}/{args.epochs}", console=console, transient=True):
            done = (self.epoch + step / steps) / args.epochs
            warm = min(1.0, (self.epoch * steps + step + 1) / WARM_UP)
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * warm * 0.5 * (1 + math.cos(math.pi * done))
            batch = order[step * args.batch : (step + 1) * args.batch]
            scores = self.model(augment(x[batch], self.rng))
            loss = functional.cross_entropy(scores, y[batch], label_smoothing=args.smoothing) + self.lost.take()
            self.optimizer.zero_grad()
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            nn.utils.clip_grad_norm_(self.model.parameters(), args.clip)
            self.optimizer.step()  # pyright: ignore[reportUnknownMemberType]
            self.follow(args.average)
            total += loss.item()
        if not math.isfinite(total):
            raise FloatingPointError(f"epoch {self.epoch + 1}: the loss is {total}; a lower --lr may help")
        self.epoch += 1
        return total / steps

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Let the average follow the model."""
        for mean, now in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)


def write(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file whole or not at all."""
    part = path.with_name(path.name + ".part")
    save_file(tensors, part)
    part.replace(path)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which cannot hold code."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadDataError(f"{path}: cannot be read: {error}") from error


def train(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Train, keep the weights best on the validation images, and test these once."""
    x, y = load(args.data, "train")
    held_x, held_y = x[-VALIDATION:], y[-VALIDATION:]
    x, y = x[:-VALIDATION], y[:-VALIDATION]
    training = Training(args, x[:1000])
    checkpoint = args.out.with_suffix(".checkpoint.safetensors")
    if args.resume:
        try:
            training.restore(read(checkpoint))
        except (KeyError, RuntimeError) as error:
            raise BadDataError(f"{checkpoint}: is no checkpoint of this net: {error}") from error
    while training.epoch < args.epochs:
        loss = training.run_epoch(x, y, args)
        candidate = training.average.eval()
        accuracy, rate = evaluate(candidate, held_x, held_y)
        if accuracy >= training.best:
            training.best = accuracy
            write(candidate.state_dict(), args.out)
        write(training.tensors(), checkpoint)
        say(f"epoch {training.epoch}: loss {loss:.4f}, validation {accuracy:.2f} % at {rate:.4f} spikes per neuron")
    final = build(args).eval()
    final.load_state_dict(read(args.out))
    validation, _ = evaluate(final, held_x, held_y)
    accuracy, rate = evaluate(final, *load(args.data, "test"))
    say(f"{args.out.name}: validation {validation:.2f} %, test {accuracy:.2f} % at {rate:.4f} spikes per neuron")


def positive(text: str) -> int:
    """An integer above zero, for the command line."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four MNIST files, .gz or not")
    parser.add_argument("--family", choices=("exact_relu", "dta"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--epochs", type=positive, default=60)
    parser.add_argument("--bits", type=int, choices=range(2, 9), metavar="2..8", default=4)
    parser.add_argument("--ticks", type=positive, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside --out (same options)")
    parser.add_argument("--batch", type=positive, default=128)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--smoothing", type=float, default=0.05, help="label smoothing")
    parser.add_argument("--average", type=float, default=0.999, help="decay of the moving average of the weights")
    parser.add_argument("--clip", type=float, default=1.0, help="largest gradient norm")
    parser.add_argument("--fraction", type=float, default=0.3, help="of neurons that fire at the start")
    parser.add_argument("--spread", type=float, default=0.5, help="of the drives at the start")
    parser.add_argument("--threads", type=positive, default=1)
    args = parser.parse_args()
    if not args.out.absolute().parent.is_dir():
        parser.error(f"--out: there is no folder {args.out.parent}")
    return args


def main() -> int:
    """Run the command line; returns the exit code."""
    args = arguments()
    torch.set_num_threads(args.threads)
    try:
        train(args, lambda line: console.print(line, highlight=False))
    except (BadDataError, FloatingPointError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
