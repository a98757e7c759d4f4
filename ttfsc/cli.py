"""The command line. Thin: every command reads its arguments, calls the library, and says what came out.

Exit codes: 0 fine, 1 rejected or differs, 2 wrong usage, 3 internal error.
"""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from ttfsc import __version__
from ttfsc.console import print_faults, show_notes
from ttfsc.ir import TtfsError

F = TypeVar("F", bound=Callable[..., Any])
REJECTED, INTERNAL = 1, 3
_FILE = click.Path(path_type=Path)


class _Sizes(click.ParamType[Any, Any]):
    """`1x28x28` on the command line."""

    name = "CxHxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = str(value).split("x")
        if not all(p.isdigit() and int(p) > 0 for p in parts):
            self.fail(f"{value!r} is not a shape such as 1x28x28", param, ctx)
        return tuple(map(int, parts))


class _Range(click.ParamType[Any, Any]):
    """`0..255` on the command line."""

    name = "LOW..HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        low, dots, high = str(value).partition("..")
        if not (dots and low.removeprefix("-").isdigit() and high.removeprefix("-").isdigit() and int(low) < int(high)):
            self.fail(f"{value!r} is not a range such as 0..255", param, ctx)
        return int(low), int(high)


class _Names(click.ParamType[Any, Any]):
    """`c,noc,report` on the command line."""

    name = "A,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return tuple(v.strip() for v in str(value).split(",") if v.strip()) if isinstance(value, str) else value


def _source_options(command: F) -> F:
    for option in (
        click.option("--input-scale", type=float, help="What one integer step of the input is in the source model."),
        click.option("--input-range", type=_Range(), help="Integers the input may hold, such as 0..255."),
        click.option("--input-shape", type=_Sizes(), help="Shape of one input where the model does not tell."),
        click.option("--weights", type=_FILE, help="Weights as .safetensors, for file.py:factory."),
    ):
        command = option(command)
    return command


def _mapping_options(command: F) -> F:
    """How the net is put on cores: docs/mapping.md."""
    choice = click.Choice
    for option in reversed((
        click.option("--partition", type=choice(["tile", "feature", "hybrid", "auto"]), default="tile",
                     show_default=True, help="How layers are cut into cores."),
        click.option("--share", default="", metavar="auto|A+B",
                     help="Layers on common cores: those with less traffic together, or these."),
        click.option("--place", type=choice(["row-major", "hilbert", "anneal"]), default="hilbert",
                     show_default=True, help="How cores are put on the mesh; anneal searches, and needs ttfsc[map]."),
        click.option("--objective", type=choice(["multicast", "unicast", "busiest", "latency"]), default="multicast",
                     show_default=True, help="What annealing lowers."),
        click.option("--restarts", type=int, default=4, show_default=True, help="Annealings to take the best of."),
        click.option("--seconds", type=float, default=0.0, help="Annealing time.  [default: by the number of cores]"),
        click.option("--rates", default="", metavar="measured|RATE|FILE.json",
                     help="Traffic annealed for: of the --calib inputs, spikes per neuron, or a table by layer."),
        click.option("--start-from", type=_FILE, help="A compiled folder in whose places annealing starts."),
        click.option("--pin", multiple=True, metavar="CORE@X:Y", help="A core that stands there; may be repeated."),
        click.option("--avoid", multiple=True, metavar="X:Y", help="A place for no core; may be repeated."),
        click.option("--delivery", type=choice(["multicast", "unicast"]), help="[default: what the chip does]"),
        click.option("--routing", type=choice(["xy", "yx"]), default="xy", show_default=True,
                     help="The axis that packets travel first."),
        click.option("--pool", type=choice(["target", "source"]), default="target", show_default=True,
                     help="source: of every max pool's window only the earliest spike leaves its core."),
    )):  # fmt: skip
        command = option(command)
    return command


def _source(model: str, options: dict[str, Any]) -> Any:
    from ttfsc.models import Source

    keys = ("weights", "input_shape", "input_range", "input_scale")
    return Source(model, **{key: options[key] for key in keys})


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="ttfsc %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Say what every pass did, chose or declined.")
def main_group(verbose: bool) -> None:
    """ttfsc: a trained time-to-first-spike network becomes running C, core mapping files and an energy report."""
    show_notes(verbose)


@main_group.command("compile")
@click.argument("model")
@click.option("-o", "--output", type=_FILE, required=True, help="Folder to make.")
@click.option("--target", "targets", type=_Names(), default="c,noc,report", show_default=True, help="Also: onnx.")
@click.option("--arch", default="canmore-22nm", show_default=True, help="A chip (`ttfsc targets`) or its TOML file.")
@click.option("--bits", type=int, default=0, help="Weight width, 2..8.  [default: as trained, else 4]")
@click.option("--ticks", type=int, default=0, help="Window length, 2..64.  [default: as trained, else 16]")
@click.option("--calib-method", type=click.Choice(["max", "percentile", "mse", "auto"]), default="mse",
              show_default=True, help="How ranges are chosen; auto: by answers on the --calib inputs.")  # fmt: skip
@_mapping_options
@click.option("--cpu", type=click.Choice(["cortex-m", "generic", "x86-64-v3", "native", "c99"]), default="cortex-m",
              show_default=True, help="Kernels: cortex-m is compact, others fast; c99: no GNU vectors.")  # fmt: skip
@click.option("--threads", type=int, default=1, show_default=True,
              help="Pieces that a layer of the C can be cut into, for threads of the caller.")  # fmt: skip
@click.option("--pipeline", default="", help="Passes to run instead of the default ones.")
@click.option("--calib", type=_FILE, help="X.npz to choose activation ranges on.")
@click.option("--inputs", type=_FILE, help="X.npz to verify and measure on.  [default: the --calib inputs]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--verify/--no-verify", "check", default=True, help="Compare all engines on the inputs.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that ttfsc made before.")
@_source_options
def compile_command(model: str, output: Path, overwrite: bool, check: bool, **given: Any) -> None:
    """Compile MODEL (x.ttfs, x.pt2, file.py:factory) into a folder, and prove that it is the same function."""
    from ttfsc.commands import compile_to_folder

    compile_to_folder(_source(model, given), output, given, overwrite=overwrite, check=check)


@main_group.command("check")
@click.argument("model")
@click.option("--arch", default="canmore-22nm", show_default=True, help="A chip (`ttfsc targets`) or its TOML file.")
@click.option("--bits", type=int, default=0, help="Weight width, 2..8.  [default: as trained, else 4]")
@click.option("--ticks", type=int, default=0, help="Window length, 2..64.  [default: as trained, else 16]")
@click.option(
    "--partition", type=click.Choice(["tile", "feature", "hybrid", "auto"]), default="tile", show_default=True
)
@click.option("--calib", type=_FILE, help="X.npz for activation ranges.  [default: a few random inputs]")
@_source_options
def check_command(
    model: str, arch: str, bits: int, ticks: int, partition: str, calib: Path | None, **given: Any
) -> None:
    """Compile MODEL without writing anything: every unsupported op, or every limit of the chip that is exceeded."""
    from ttfsc.check import check_model

    check_model(_source(model, given), arch, bits=bits, ticks=ticks, partition=partition, calib=calib)


@main_group.command("opt")
@click.argument("net", required=False, type=_FILE)
@click.option("-p", "--pipeline", default="", help="Passes: 'fold-avgpool,quantize{bits=4,ticks=16}'.")
@click.option("-o", "--output", type=_FILE, help="Where the resulting .ttfs (and its .npz) go.")
@click.option("--calib", type=_FILE, help="X.npz for passes that need sample inputs.")
@click.option("--arch", default="canmore-22nm", show_default=True, help="Chip for the mapping passes.")
@click.option("--start-from", type=_FILE, help="A compiled folder, for place{start=earlier}.")
@click.option("--print-ir-after-all", is_flag=True, help="Print the net after every pass.")
@click.option("--time-passes", is_flag=True, help="Print how long every pass took.")
@click.option("--list-passes", is_flag=True, help="Print the passes and their options.")
@click.option("--verify-each/--verify-ends", default=True, help="Verify after every pass, or only at the ends.")
def opt_command(net: Path | None, list_passes: bool, **given: Any) -> None:
    """Run passes on a NET.ttfs."""
    from ttfsc.commands import optimise, print_passes

    if list_passes:
        print_passes()
    elif net is None:
        raise click.UsageError("name the NET.ttfs to work on, or ask for --list-passes")
    else:
        optimise(net, **given)


@main_group.command("run")
@click.argument("net", type=_FILE)
@click.option("--inputs", type=_FILE, required=True, help="X.npz with x [N, ...] and perhaps y [N].")
@click.option("-o", "--output", type=_FILE, help="Y.npz: label, scores, and with --spikes the ticks of every layer.")
@click.option("--engine", type=click.Choice(["ir", "c", "noc", "onnx"]), default="ir", show_default=True)
@click.option("--spikes", is_flag=True, help="Also store every layer's spike ticks (-1: never).")
def run_command(net: Path, **given: Any) -> None:
    """Evaluate a quantised NET.ttfs or compiled DIR on inputs."""
    from ttfsc.running import run_inputs

    run_inputs(net, **given)


@main_group.command("verify")
@click.argument("folder", type=_FILE)
@click.option("--inputs", type=_FILE, required=True, help="X.npz to compare on.")
@click.option("--model", default=None, help="The source model, to compare its float accuracy as well.")
@click.option("--noc-inputs", type=int, default=16, show_default=True, help="How many inputs the mapped cores execute.")
@_source_options
def verify_command(folder: Path, inputs: Path, model: str | None, noc_inputs: int, **given: Any) -> None:
    """Run the same inputs through interpreter, compiled C and mapped cores: equal, or the first spike that differs."""
    from ttfsc.commands import verify_folder

    verify_folder(folder, inputs, None if model is None else _source(model, given), noc_inputs)


@main_group.command("simulate")
@click.argument("folder", type=_FILE)
@click.option("--inputs", type=_FILE, required=True, help="X.npz with x [N, ...] and perhaps y [N].")
@click.option("--fidelity", type=click.Choice(["counts", "cycle"]), default="counts", show_default=True,
              help="counts: function, traffic, energy. cycle: also router timing.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=0), default=0, help="At most this many inputs.  [default: all]")
@click.option("-o", "--output", type=_FILE, help="OUT.json: every figure, per frame.")
@click.option("--svg", type=_FILE, help="Folder for pictures of the mesh, its links and the energy.")
@click.option("--traffic", type=_FILE, help="T.csv: packets by tick, source and destination, for NoC simulators.")
@click.option("--sanafe", type=_FILE, help="Folder for the first input's frame as SANA-FE files.")
@click.option("--sanafe-replay", type=_FILE, help="Folder for its packets only: for nets too large for SANA-FE.")
@click.option("--spikes", type=_FILE, help="S.npz: the spike ticks of every layer (-1: never).")
def simulate_command(folder: Path, fidelity: str, **given: Any) -> None:
    """Run a compiled DIR, or its noc folder, from the mapping files alone: spikes, traffic, latency, energy."""
    from ttfsc.simulation import simulate_folder

    simulate_folder(folder, fidelity="counts" if fidelity == "counts" else "cycle", **given)


@main_group.command("report")
@click.argument("folder", type=_FILE)
@click.option("--html", type=_FILE, help="Write the page there.")
@click.option("--json", "json_file", type=_FILE, help="Write the figures there.")
def report_command(folder: Path, html: Path | None, json_file: Path | None) -> None:
    """Print the report of a compiled folder."""
    from ttfsc.commands import show_report

    show_report(folder, html, json_file)


@main_group.command("inspect")
@click.argument("file", type=_FILE)
@click.option("--plan", is_flag=True, help="Of a compiled folder: each layer's C kernel, why, and its predicted cost.")
def inspect_command(file: Path, plan: bool) -> None:
    """Say what is in FILE: a net, arrays, weights, or a compiled folder."""
    from ttfsc.commands import inspect_file

    inspect_file(file, plan=plan)


@main_group.command("explain")
@click.argument("code")
def explain_command(code: str) -> None:
    """Explain an error CODE: 7 or TTFS007."""
    from ttfsc.ir.codes import CODES

    digits = code.upper().removeprefix("TTFS")
    if not digits.isdigit() or int(digits) not in CODES:
        raise click.UsageError(f"there is no code {code}; codes go from TTFS001 to TTFS{max(CODES):03d}")
    found = CODES[int(digits)]
    click.echo(f"TTFS{int(digits):03d}: {found.title}\n\n{found.explanation}")


@main_group.command("supported-ops")
def supported_ops_command() -> None:
    """List what frontends understand."""
    from ttfsc.frontends import supported_ops

    for row in supported_ops():
        click.echo(f"{row.name:32} {row.kind:10} {row.notes}")


@main_group.command("targets")
def targets_command() -> None:
    """List the chips that ttfsc knows."""
    from ttfsc.commands import print_targets

    print_targets()


@main_group.command("version")
def version_command() -> None:
    """Versions of ttfsc and of what it uses here."""
    from ttfsc.commands import print_versions

    print_versions(__version__)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        main_group(prog_name="ttfsc", standalone_mode=False)
    except TtfsError as e:
        print_faults(e)
        sys.exit(REJECTED)
    except click.ClickException as e:
        e.show()
        sys.exit(e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception:
        traceback.print_exc()
        print("internal error: this is a bug in ttfsc; please report it with the lines above", file=sys.stderr)
        sys.exit(INTERNAL)
    sys.exit(0)
