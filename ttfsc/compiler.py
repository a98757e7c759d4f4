"""`ttfsc compile`: a printed pipeline, the backends' files, and the proof that they compute the same function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ttfsc import __version__
from ttfsc.accuracy import ranges_of
from ttfsc.backends import report as reporting
from ttfsc.console import progress
from ttfsc.hardware import Chip, load_chip
from ttfsc.inputs import Samples, random_samples
from ttfsc.ir import Array, Fault, Loc, Net, Result, TtfsError, check_stage, codes, save
from ttfsc.mapping import MapOptions
from ttfsc.output import write_folder
from ttfsc.passes.calibrate import Observe
from ttfsc.pipeline import Context, Pipeline, default_pipeline
from ttfsc.verification import Engine, Verification, verify_engines

if TYPE_CHECKING:
    from ttfsc.backends.noc.simulate import Simulator

TARGETS = ("c", "noc", "report")  # what is made unless other targets are named
ALL_TARGETS = (*TARGETS, "onnx")
DEFAULT_ARCH = "canmore-22nm"
DEFAULT_CPU = "cortex-m"  # the compact kernels: least RAM and ROM, right everywhere
NOC_INPUTS = 16  # the core-by-core executor is the slow, independent judge: it sees this many inputs
_KNOWN_ANSWERS = 4  # inputs in the generated self-test
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options(MapOptions):
    """Everything that shapes the output besides the model."""

    targets: tuple[str, ...] = TARGETS
    arch: str = DEFAULT_ARCH
    bits: int = 0  # 0: as trained, else 4
    ticks: int = 0  # 0: as trained, else 16
    calib_method: str = "mse"
    pipeline: str = ""  # "": the default one
    seed: int = 0
    cpu: str = DEFAULT_CPU  # kernels of the generated C
    threads: int = 1  # pieces that a layer of the C is cut into at most

    def faults(self) -> list[Fault]:
        """What is wrong with them, all at once."""
        rules = [
            (self.bits == 0 or 2 <= self.bits <= 8, f"--bits {self.bits}: must be 2..8"),
            (self.ticks == 0 or 2 <= self.ticks <= 64, f"--ticks {self.ticks}: must be 2..64"),
            (bool(self.targets), f"--target names nothing; choose from {', '.join(ALL_TARGETS)}"),
            (self.seed >= 0, f"--seed {self.seed}: must not be negative"),
            (1 <= self.threads <= 64, f"--threads {self.threads}: must be 1..64"),
        ]
        facts = [fact for holds, fact in rules if not holds]
        facts += self.map_faults(self.pipeline)
        unknown = [t for t in self.targets if t not in ALL_TARGETS]
        facts += [f"--target {t}: there is no such target; choose from {', '.join(ALL_TARGETS)}" for t in unknown]
        return [Fault(codes.OPTION, Loc("ttfsc compile"), "", fact) for fact in facts]

    @property
    def needs_chip(self) -> bool:
        """Whether the net is mapped: mapping files and the report's traffic need cores."""
        return "noc" in self.targets or "report" in self.targets


@dataclass(frozen=True)
class Compiled:
    """A compiled network: the files of its folder, and what was found out on the way."""

    net: Net
    chip: Chip | None
    files: dict[str, bytes]
    options: dict[str, Any]
    verification: Verification
    report: reporting.Report | None = None

    def write(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write the output folder, whole or not at all."""
        write_folder(folder, self.files, self.options, overwrite=overwrite)

    @cached_property
    def engine(self) -> Engine:
        """The generated C on this machine. Raises TtfsError when `c` is no target or no compiler is here."""
        if "c" not in self.options["targets"]:
            raise TtfsError.one(
                codes.OPTION, "was compiled without target c: there is nothing to run", subject="engine"
            )
        return c_engine(part_of(self.files, "c"))

    def run(self, x: Array) -> Result:
        """Evaluate x [N, *input shape], integers, with the generated C: labels, scores and every spike."""
        return self.engine(x)


def compile_net(
    net: Net,
    options: Options = Options(),
    *,
    calibration: Samples | None = None,
    observe: Observe | None = None,
    samples: Samples | None = None,
    check: bool = True,
    say: Say = lambda _: None,
) -> Compiled:
    """Lower a net and emit every target.

    calibration: inputs for activation ranges, where the source has none of its own; with labels, calib_method=auto
        goes by accuracy.
    observe: shows the source's activations on them; without it the net itself is evaluated.
    samples: inputs on which the engines are compared and spikes are counted; without them a few random ones are
        compared and nothing is counted.
    check: compare the engines; without it the verification says that it was not done.
    Raises TtfsError; nothing is written before `Compiled.write`.
    """
    faults = options.faults()
    if faults:
        raise TtfsError(faults)
    chip = load_chip(options.arch) if options.needs_chip else None
    pipeline = Pipeline.parse(options.pipeline or _default(options, careful=calibration is not None))
    say(f"pipeline: {pipeline}")
    steps, ranges = [net], dict[str, float]()

    with progress("passes", len(pipeline.steps)) as advance:

        def after(_: str, result: Net, __: float) -> None:
            ranges.update(ranges_of(steps[-1], result))
            steps[:] = [result]
            advance(1)

        context = replace(_context(calibration, observe, chip), earlier=options.earlier)
        net = pipeline.run(net, context, after=after)
    check_stage(net, "mapped" if options.needs_chip else "quantized")
    judges = samples if samples is not None else random_samples(net, _KNOWN_ANSWERS, options.seed)

    files = net_files(net)
    makers = _makers(net, chip, judges.x[:_KNOWN_ANSWERS], options)
    wanted = [target for target in makers if target in options.targets]
    with progress("emitting", len(wanted)) as advance:
        for target in wanted:
            title, emit = makers[target]
            say(f"emitting {title}")
            files |= _below(target, emit())
            advance(1)

    meter = reporting.Meter(net) if samples is not None and "report" in options.targets else None
    verification = verify_files(net, files, judges, meter=meter, check=check)
    verification.raise_if_different()
    shown = {
        "targets": list(options.targets), "arch": chip.name if chip else None, "pipeline": str(pipeline),
        "seed": options.seed, "samples": judges.source, "cpu": options.cpu,
        "threads": options.threads,
    }  # fmt: skip
    report = None
    if "report" in options.targets:
        assert chip is not None
        report = reporting.build(
            net, chip=chip, measured=meter.finish() if meter else None, verification=verification.for_report(),
            provenance=reporting.Provenance("ttfsc", __version__, options={k: str(v) for k, v in shown.items()}),
        )  # fmt: skip
        files |= _below("report", reporting.emit(report))
    return Compiled(net, chip, files, {**shown, "ranges": ranges}, verification, report)


def _makers(
    net: Net, chip: Chip | None, known: Array, options: Options
) -> dict[str, tuple[str, Callable[[], dict[str, bytes]]]]:
    """Target -> what it is called and how its files are made; nothing is imported before it is wanted."""

    def c() -> dict[str, bytes]:
        from ttfsc.backends.c import emit

        return emit(net, samples=known, cpu=options.cpu, threads=options.threads)

    def noc() -> dict[str, bytes]:
        from ttfsc.backends.noc import emit

        assert chip is not None
        return emit(net, chip)

    return {"c": ("C", c), "noc": ("mapping files", noc), "onnx": ("ONNX", lambda: onnx_files(net))}


def verify_files(
    net: Net,
    files: Mapping[str, bytes],
    judges: Samples,
    *,
    meter: reporting.Meter | None = None,
    check: bool = True,
    noc_inputs: int = NOC_INPUTS,
    exported: bool = False,
) -> Verification:
    """Compare interpreter, compiled C and mapped cores on the judges; what cannot be compared is listed, and why.

    meter: counts spikes on the way, since every input passes through the interpreter anyhow.
    exported: compare onnxruntime too where ONNX was no target; a net without an exact ONNX form is a check not run.
    """
    engines, not_run, simulators = dict[str, tuple[Engine, int]](), dict[str, str](), list["Simulator"]()

    def mapped_cores(part: dict[str, bytes]) -> Engine:
        simulators.append(noc_simulator(part))
        return simulators[0].mesh.run

    makers: dict[str, tuple[str, Callable[[dict[str, bytes]], Engine], int]] = {
        "c": ("C", c_engine, len(judges)),
        "noc": ("mapped cores", mapped_cores, noc_inputs),
        "onnx": ("ONNX", onnx_engine, len(judges)),
    }
    with progress("building engines", len(makers)) as advance:
        for target, (name, make, limit) in makers.items():
            part = part_of(files, target)
            if target == "onnx" and exported and not part:
                try:
                    part = onnx_files(net)
                except TtfsError as e:
                    if any(f.code != codes.UNSUPPORTED for f in e.faults):
                        raise
                    not_run[name] = "; ".join(f"{f.subject} {f.fact}" for f in e.faults)
                    advance(1)
                    continue
            if not part:
                if target in TARGETS:  # the others are extras: nothing was made, so nothing is left unverified
                    not_run[name] = f"{target} is not among the targets"
            elif not check:
                not_run[name] = "switched off by --no-verify"
            else:
                try:
                    engines[name] = (make(part), limit)
                except TtfsError as e:
                    if any(f.code != codes.TOOL for f in e.faults):
                        raise
                    not_run[name] = "; ".join(f.fact for f in e.faults)
            advance(1)

    def count(result: Result, start: int) -> None:
        if meter is not None:
            rows = slice(start, start + len(result.labels))
            meter.add(judges.x[rows], result, None if judges.y is None else judges.y[rows])

    if not engines and meter is None:
        return Verification(not_run=not_run)
    verification = verify_engines(net, judges.x, engines, each=count)
    if "mapped cores" in engines:
        with progress("routers", 1):
            verification.notes.append(routers_deliver(simulators[0], judges.x[:1]))
    verification.not_run |= not_run
    return verification


def part_of(files: Mapping[str, bytes], target: str) -> dict[str, bytes]:
    """The files below `target/`, without that prefix."""
    return {name.removeprefix(f"{target}/"): data for name, data in files.items() if name.startswith(f"{target}/")}


def net_files(net: Net) -> dict[str, bytes]:
    """net.ttfs and net.npz as bytes."""
    with TemporaryDirectory() as folder:
        save(net, Path(folder) / "net.ttfs")
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def c_engine(files: dict[str, bytes]) -> Engine:
    """The generated C, compiled by this machine's compiler. Raises TtfsError (TOOL) where there is none."""
    from ttfsc.backends.c.engine import Engine as CEngine

    return CEngine(files).run


def noc_engine(files: dict[str, bytes]) -> Engine:
    """The mapped network, executed core by core from its mapping files alone."""
    return noc_simulator(files).mesh.run


def noc_simulator(files: dict[str, bytes]) -> "Simulator":
    """The mapped network with its routers, from its mapping files alone."""
    from ttfsc.backends.noc import load
    from ttfsc.backends.noc.simulate import Simulator

    return Simulator(load(files))


def routers_deliver(simulator: "Simulator", x: Array) -> str:
    """Send the packets of x through the cycle model of the routers and say that each arrived exactly once.

    Raises TtfsError naming a packet that did not.
    """
    count = simulator.deliver(x, simulator.mesh.run(x))
    return f"routers: all {count} deliveries of {len(x)} input{'s' * (len(x) > 1)} made, each exactly once"


def onnx_files(net: Net) -> dict[str, bytes]:
    """The net as plain ONNX. Raises TtfsError (UNSUPPORTED) where it has no exact form."""
    from ttfsc.backends.onnx import emit

    return emit(net)


def onnx_engine(files: dict[str, bytes], *, spikes: bool = True) -> Engine:
    """The exported network in onnxruntime. Raises TtfsError (TOOL) where that is not installed."""
    from ttfsc.backends.onnx.engine import OnnxEngine

    return OnnxEngine(files, spikes=spikes).run


def _below(target: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{target}/{name}": data for name, data in files.items()}


def _context(calibration: Samples | None, observe: Observe | None, chip: Chip | None) -> Context:
    if calibration is None:
        return Context(chip=chip)
    return Context(calibration=calibration.x, labels=calibration.y, chip=chip, observe=observe)


def _default(options: Options, *, careful: bool) -> str:
    text = default_pipeline(
        bits=options.bits, ticks=options.ticks, method=options.calib_method, careful=careful, partition=None
    )
    return f"{text},{options.passes(options.seed)}" if options.needs_chip else text
