"""What a trained network comes to after compilation: the generated C on the whole test set, compared spike by spike."""

import dataclasses
import hashlib
import json
from pathlib import Path

import ttfsc
from examples.training.data import BadDataError, Images
from examples.training.files import read
from examples.training.recipe import Recipe, Task
from examples.training.trainer import deployed, evaluate


@dataclasses.dataclass(frozen=True)
class Measured:
    """Figures of one network. Accuracies in percent; energies in uJ per frame, modelled (docs/report.md)."""

    builder: str
    weights: str  # file name
    sha256: str  # of that file
    bits: int
    ticks: int
    test_images: int
    validation: float | None  # of the trained net, in torch; None where nothing was held out
    quantised: float  # in torch
    compiled: float  # of the generated C
    spikes_per_neuron: float
    sops: float
    energy: dict[str, float]  # by line of the report

    @property
    def line(self) -> str:
        """One line for people."""
        held = "" if self.validation is None else f"validation {self.validation:.2f} %, "
        return (
            f"{self.weights}: {held}test {self.quantised:.2f} %, compiled C {self.compiled:.2f} % of {self.test_images}"
            f" images at {self.spikes_per_neuron:.4f} spikes per neuron; C and interpreter agree on every spike"
        )


@dataclasses.dataclass(frozen=True)
class Floating:
    """The figure of a net trained without quantisation, for comparison; it is not compiled. In percent, in torch."""

    builder: str
    weights: str
    test_images: int
    floating: float

    @property
    def line(self) -> str:
        """One line for people."""
        return f"{self.weights}: test {self.floating:.2f} % of {self.test_images} images, float weights and free time"


def write(figures: Measured | Floating, path: Path) -> None:
    """Write the figures as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(figures), indent=2) + "\n", "utf-8")


def measure(task: Task, recipe: Recipe, weights: Path, test: Images, held: Images | None) -> Measured | Floating:
    """Compile the trained network and run its C on all of `test`; BadDataError where it is not the interpreter."""
    model = deployed(recipe.build(recipe.bits or None, recipe.ticks or None), recipe)
    try:
        model.load_state_dict(read(weights))
    except RuntimeError as error:
        raise BadDataError(f"{weights}: are no weights of {recipe.builder}: {error}") from error
    if not (recipe.bits and recipe.ticks):
        return Floating(recipe.builder, weights.name, len(test.x), round(evaluate(model, test)[0], 4))
    builder = f"{recipe.builder}(bits={recipe.bits}, ticks={recipe.ticks})"
    net = ttfsc.load(f"{task.network}:{builder}", weights=weights)
    compiled = ttfsc.compile(net, targets=["c", "report"], x=test.x.numpy().astype("int64"), y=test.y.numpy())
    report = compiled.report
    assert report is not None
    assert report.activity is not None
    if not report.verification.exact:
        raise BadDataError(f"{weights}: the generated C differs: {report.verification.engines}")
    return Measured(
        builder=builder,
        weights=weights.name,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        bits=recipe.bits,
        ticks=recipe.ticks,
        test_images=len(test.x),
        validation=round(evaluate(model, held)[0], 4) if held is not None and len(held.x) else None,
        quantised=round(evaluate(model, test)[0], 4),
        compiled=round(100 * (report.activity.accuracy or 0.0), 4),
        spikes_per_neuron=round(report.activity.spikes_per_neuron, 6),
        sops=round(report.activity.sops, 1),
        energy={line.key: round(line.value, 4) for line in report.energy if line.value is not None},
    )
