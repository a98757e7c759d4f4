"""The command line of the recipes: train, keep the best weights, compile them, and test the compiled net once."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from examples.training.data import BadDataError, Images, split
from examples.training.files import read, write
from examples.training.measure import measure
from examples.training.measure import write as write_figures
from examples.training.recipe import Recipe, Task
from examples.training.trainer import Training, console, deployed, evaluate
from ttfsc.ir import TtfsError

Say = Callable[[str], None]
NUMBERS = [field for field in dataclasses.fields(Recipe) if field.name not in ("build", "builder", "augment")]


def train(recipe: Recipe, task: Task, args: argparse.Namespace, say: Say, recipes: Mapping[str, Recipe]) -> None:
    """Train, keep the weights best on the validation images (the last, where there are none), and test these once."""
    images, held = split(task.load(args.data, "train"), args.held)
    if args.measure:
        finish(recipe, task, args, held, say)
        return
    device = torch.device(args.device)
    teachers = [_teacher(recipes["teacher"], path).to(device) for path in args.teacher]
    if recipe.distil and not teachers:
        raise BadDataError(
            f"this recipe follows teachers for {recipe.distil:.0%} of its loss: --teacher FILE, or --distil 0"
        )
    start = read(args.start) if args.start else None
    training = Training(recipe, images, device, teachers=teachers, start=start, compiled=args.compile)
    checkpoint = args.out.with_suffix(".checkpoint.safetensors")
    if args.resume:
        try:
            training.restore(read(checkpoint))
        except (KeyError, RuntimeError) as error:
            raise BadDataError(f"{checkpoint}: is no checkpoint of this net: {error}") from error
    while training.epoch < recipe.epochs:
        loss = training.run_epoch()
        line = f"epoch {training.epoch}: loss {loss:.4f}"
        if training.validated():
            line += _keep_best(training, held, args.out)
        write(training.tensors(), checkpoint)
        say(line)
    if recipe.builder:
        finish(recipe, task, args, held, say)


def finish(recipe: Recipe, task: Task, args: argparse.Namespace, held: Images, say: Say) -> None:
    """Compile, test once, and write the figures beside the weights."""
    measured = measure(task, recipe, args.out, task.load(args.data, "test"), held)
    write_figures(measured, args.out.with_suffix(".json"))
    say(measured.line)


def _keep_best(training: Training, held: Images, out: Path) -> str:
    """Validate the average and write it where it is the best so far; what to print of it."""
    candidate = deployed(training.average, training.recipe)
    if not len(held.x):
        write(candidate.state_dict(), out)
        return ""
    accuracy, rate = evaluate(candidate, held)
    if accuracy >= training.best:
        training.best = accuracy
        write(candidate.state_dict(), out)
    return f", validation {accuracy:.2f} % at {rate:.4f} spikes per neuron"


def _teacher(recipe: Recipe, path: Path) -> nn.Module:
    """A trained teacher, fixed."""
    net = recipe.build(None, None).eval()
    try:
        net.load_state_dict(read(path))
    except RuntimeError as error:
        raise BadDataError(f"{path}: holds no teacher: {error}") from error
    return net.requires_grad_(False)


def arguments(recipes: Mapping[str, Recipe], task: Task, doc: str | None) -> tuple[Recipe, argparse.Namespace]:
    """The chosen recipe with the numbers of the command line, and the rest of it."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=recipes)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data set")
    parser.add_argument("--out", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside --out (same options)")
    parser.add_argument("--measure", action="store_true", help="no training: compile and test the weights in --out")
    parser.add_argument("--start", type=Path, help="weights to start from, .safetensors (fine-tuning)")
    parser.add_argument("--teacher", type=Path, nargs="*", default=[], help="weights of the recipe `teacher`")
    parser.add_argument(
        "--held", type=int, default=task.held, help="validation images; 0 trains on all, to the last epoch"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    for field in NUMBERS:
        if field.type is bool:
            parser.add_argument(f"--{field.name}", action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=_number(field.type), metavar="N")
    args = parser.parse_args()
    changed = {f.name: value for f in NUMBERS if (value := getattr(args, f.name)) is not None}
    recipe = dataclasses.replace(recipes[args.recipe], **changed)
    for name, fact in _faults(recipe, args):
        parser.error(f"--{name}: {fact}")
    return recipe, args


def _number(kind: object) -> Callable[[str], float]:
    return int if kind is int else float


def _faults(recipe: Recipe, args: argparse.Namespace) -> list[tuple[str, str]]:
    """What the command line cannot mean."""
    bounds = {"epochs": 1, "batch": 1, "every": 1, "ticks": 0}
    found = [
        (name, f"{getattr(recipe, name)} is below {least}")
        for name, least in bounds.items()
        if getattr(recipe, name) < least
    ]
    if recipe.bits and not 2 <= recipe.bits <= 8:
        found.append(("bits", f"{recipe.bits} is not in 2..8; 0 trains float weights"))
    if not args.out.absolute().parent.is_dir():
        found.append(("out", f"there is no folder {args.out.parent}"))
    return found


def main(recipes: Mapping[str, Recipe], task: Task, doc: str | None) -> int:
    """Run the command line of a data set's recipes; returns the exit code."""
    recipe, args = arguments(recipes, task, doc)
    torch.set_num_threads(args.threads)
    try:
        train(recipe, task, args, lambda line: console.print(line, highlight=False), recipes)
    except (BadDataError, FloatingPointError, TtfsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
