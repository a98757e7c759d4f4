"""The two functions most Python users need; everything else is a pass or a backend they can call themselves."""

from collections.abc import Sequence
from pathlib import Path

from ttfsc.compiler import Compiled, Options, compile_net
from ttfsc.inputs import Samples, on_grid
from ttfsc.ir import Array, Mapped, Net, Shape, check_input
from ttfsc.models import Source, load_model


def load(
    model: str | Path,
    *,
    weights: str | Path | None = None,
    input_shape: Shape | None = None,
    input_range: tuple[int, int] | None = None,
    input_scale: float | None = None,
) -> Net:
    """The net of a model: `x.ttfs`, `x.pt2`, `file.py:factory`, or a folder made by `ttfsc compile`.

    Raises TtfsError with everything that is wrong with it.
    """
    path = None if weights is None else Path(weights)
    return load_model(Source(str(model), path, input_shape, input_range, input_scale))


def compile(
    net: Net,
    *,
    targets: Sequence[str] = ("c", "noc", "report"),
    calibration: Array | None = None,
    x: Array | None = None,
    y: Array | None = None,
    check: bool = True,
    **options: str | int | float | Mapped | None,
) -> Compiled:
    """Compile a net of any stage, as `ttfsc compile` does.

    calibration: inputs for activation ranges, where the source has none of its own.
    x [N, *input shape], y [N]: inputs on which engines are compared and spikes counted, and their labels.
    options: arch, bits, ticks, calib_method, pipeline, seed, cpu and those of mapping (partition, place, pool and so
        on); see `ttfsc.compiler.Options`.
    Raises TtfsError for whatever a user can mend.
    """
    samples = None
    if x is not None:
        x, rounded = on_grid(x, net.input)
        check_input(net, x)
        samples = Samples(x, y, "given inputs", rounded)
    ranges = None if calibration is None else Samples(on_grid(calibration, net.input)[0], None, "given calibration")
    chosen = Options(targets=tuple(targets), **options)  # pyright: ignore[reportArgumentType]
    return compile_net(net, chosen, calibration=ranges, samples=samples, check=check)
