"""What the commands do: call the library, then say in plain lines what came out. Imported only when a command runs."""

import importlib.metadata
import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ttfsc.accuracy import compare
from ttfsc.backends import report as reporting
from ttfsc.compiler import (
    DEFAULT_CPU,
    Options,
    c_engine,
    compile_net,
    noc_engine,
    onnx_engine,
    onnx_files,
    part_of,
    verify_files,
)
from ttfsc.console import progress
from ttfsc.hardware import chip_names, load_chip
from ttfsc.inputs import Samples, load_samples, range_of_samples
from ttfsc.ir import (
    Analog,
    Array,
    Const,
    Fire,
    Loc,
    Net,
    Result,
    Spikes,
    TtfsError,
    codes,
    is_integer,
    layers_of,
    load_npz,
    run_batches,
    save,
    save_npz,
    show,
    ticks_of,
)  # fmt: skip
from ttfsc.judge import judged
from ttfsc.models import Source, load_compiled, load_model, need_integer
from ttfsc.output import check_free, options_of, read_folder
from ttfsc.pipeline import Context, Pipeline, list_passes
from ttfsc.verification import Engine


def compile_to_folder(source: Source, output: Path, given: dict[str, Any], *, overwrite: bool, check: bool) -> None:
    """`ttfsc compile`."""
    keys = ("targets", "arch", "bits", "ticks", "method", "partition", "pipeline", "seed", "cpu")
    options = Options(**{key: given[key] for key in keys})
    if faults := options.faults():
        raise TtfsError(faults)
    check_free(output, overwrite=overwrite)
    calib: Path | None = given["calib"]
    net = load_model(replace(source, seen=range_of_samples(calib)) if calib is not None else source)
    inputs: Path | None = given["inputs"] or calib
    calibration = load_samples(calib, net) if calib is not None else None
    samples = load_samples(inputs, net) if inputs is not None else None
    for loaded in dict.fromkeys(s for s in (calibration, samples) if s is not None and s.rounded):
        grid = f"{net.input.scale:.6g}"
        print(f"{loaded.source}: real inputs rounded to the input's grid of {grid} (by {loaded.rounded:.2g} at most)")
    compiled = compile_net(
        net,
        options,
        calibration=calibration,
        samples=samples,
        check=check,
        say=print,
    )
    compiled.write(output, overwrite=overwrite)
    answers = compiled.verification.answers
    if samples is not None and source.model.endswith(".onnx") and len(answers) == len(samples):
        print(judged(Path(source.model), compiled.net, samples, answers))
    if compiled.report is not None:
        print(reporting.summary_of(compiled.report))
    for sentence in compiled.verification.sentences():
        print(sentence)
    kinds = {"c": "C runtime", "noc": "mapping files", "report": "report.html and report.json", "onnx": "model.onnx"}
    for target in options.targets:
        print(f"{output / target}: {kinds[target]}")


def check_model(source: Source, arch: str) -> None:
    """`ttfsc check`."""
    chip = load_chip(arch)
    net = load_model(source)
    ranges = sum(isinstance(op, Fire) and op.theta is None for op in net.ops)
    print(
        f"{source.model}: every op is understood: {len(net.ops)} ops, input {net.input.type}, answer {net.answer.type}"
    )
    if ranges:
        print(f"{ranges} layers have no trained range: compile needs sample inputs, --calib X.npz")
    try:
        mapped = Pipeline.parse("drop-identity,fold-batchnorm,fold-avgpool,partition").run(net, Context(chip=chip))
    except TtfsError as e:
        raise TtfsError(e.faults) from e
    layers = layers_of(mapped)
    for layer in layers:
        print(f"  {layer.name:24} {'x'.join(map(str, layer.grid)):>16} {layer.size:>9} neurons")
    cores = len(mapped.mapped.cores) if mapped.mapped else 0
    print(f"{sum(layer.size for layer in layers)} neurons on {cores} cores of {chip.name}")


def optimise(
    path: Path, *, pipeline: str, output: Path | None, calib: Path | None, arch: str, print_ir_after_all: bool,
    time_passes: bool, verify_each: bool,
) -> None:  # fmt: skip
    """`ttfsc opt`."""
    net = load_model(Source(str(path)))
    if output is not None and output.suffix != ".ttfs":
        raise TtfsError.one(codes.OPTION, f"-o {output} must end in .ttfs", loc=Loc("ttfsc opt"))
    samples = load_samples(calib, net) if calib is not None else None
    needs = Context(
        calibration=None if samples is None else samples.x,
        labels=None if samples is None else samples.y,
        chip=load_chip(arch),
    )

    steps = Pipeline.parse(pipeline)
    with progress("passes", len(steps.steps)) as advance:

        def after(name: str, result: Net, seconds: float) -> None:
            advance(1)
            if print_ir_after_all:
                print(f"// after {name}\n{show(result)}", end="")
            if time_passes:
                print(f"{seconds:8.3f} s  {name}", file=sys.stderr)

        net = steps.run(net, needs, after=after, verify="each" if verify_each else "ends")
    if output is not None:
        save(net, output)
    elif not print_ir_after_all:
        print(show(net), end="")


def print_passes() -> None:
    """`ttfsc opt --list-passes`."""
    for one in list_passes():
        print(f"{one.usage}\n    {one.summary}")


def run_inputs(path: Path, *, inputs: Path, output: Path | None, engine: str, spikes: bool) -> None:
    """`ttfsc run`."""
    net, files = _net_and_files(path)
    samples = load_samples(inputs, net)
    runner = _engine(net, files, engine, path, spikes=spikes)
    names = [op.name for op in net.ops if isinstance(op.type, Spikes) and isinstance(op, Fire)] if spikes else []
    parts = list[Result]()
    with progress(f"running ({engine})", len(samples)) as advance:
        for i in range(0, len(samples), 256):
            result = runner(samples.x[i : i + 256])
            parts.append(Result(result.labels, result.scores, {n: result.spikes[n] for n in names}))
            advance(len(result.labels))
    labels = np.concatenate([p.labels for p in parts])
    if output is not None:
        arrays = dict[Const, Array]()
        arrays[Const("label")] = labels
        arrays[Const("scores")] = np.concatenate([p.scores for p in parts])
        for name in names:
            window = net.type_of(name)
            assert isinstance(window, Spikes)
            arrays[Const(f"ticks.{name}")] = ticks_of(np.concatenate([p.spikes[name] for p in parts]), window)
        save_npz(output, arrays)
    print(f"{len(samples)} inputs, engine {engine}{_accuracy(labels, samples)}")
    if output is None:
        print("labels:", *labels[:20], "..." if len(labels) > 20 else "")


def verify_folder(folder: Path, inputs: Path, source: Source | None, noc_inputs: int) -> None:
    """`ttfsc verify`."""
    net, files = load_compiled(folder)
    samples = load_samples(inputs, net)
    meter = reporting.Meter(net)
    verification = verify_files(net, files, samples, meter=meter, noc_inputs=noc_inputs, exported=True)
    counts = meter.finish()
    if samples.y is not None and counts.correct is not None:
        print(f"accuracy {_percent(counts.correct, len(samples))} on {len(samples)} inputs")
    if source is not None:
        t = net.input.type
        seen = (t.low, t.high, net.input.scale) if isinstance(t, Analog) else None
        _compare_source(net, load_model(replace(source, seen=seen)), samples, folder)
        if source.model.endswith(".onnx"):
            print(judged(Path(source.model), net, samples, verification.answers))
    for sentence in verification.sentences():
        print(sentence)
    verification.raise_if_different()
    if not verification.exact:
        raise TtfsError.one(codes.TOOL, "nothing could be compared: see the lines above", loc=Loc(str(folder)))


def show_report(folder: Path, html: Path | None, json_file: Path | None) -> None:
    """`ttfsc report`."""
    files = part_of(read_folder(folder), "report")
    if "report.json" not in files:
        fact = "has no report: compile with --target report (and --inputs X.npz for measured figures)"
        raise TtfsError.one(codes.FILE, fact, loc=Loc(str(folder)))
    report = reporting.read_json(files["report.json"], source=str(folder / "report" / "report.json"))
    views = reporting.emit(report)
    for path, name in ((html, "report.html"), (json_file, "report.json")):
        if path is not None:
            try:
                path.write_bytes(views[name])
            except OSError as e:
                raise TtfsError.one(codes.FILE, f"cannot be written: {e.strerror or e}", loc=Loc(str(path))) from e
    if html is None and json_file is None:
        print(reporting.text_of(report), end="")


def inspect_file(path: Path) -> None:
    """`ttfsc inspect`."""
    if path.is_dir():
        net, files = load_compiled(path)
        print(f"{path}: made by ttfsc, {len(files)} files, all as compiled")
        print(json.dumps(options_of(path), indent=1))
        _inspect_net(net)
    elif path.suffix == ".ttfs":
        _inspect_net(load_model(Source(str(path))))
    elif path.suffix == ".npz":
        for name, array in load_npz(path).items():
            _describe(name, array)
    elif path.suffix == ".safetensors":
        from ttfsc.frontends.tensors import load_tensors

        for name, array in load_tensors(path).items():
            _describe(name, array)
    else:
        fact = "is nothing that ttfsc makes or reads: a .ttfs, .npz, .safetensors or a compiled folder"
        raise TtfsError.one(codes.FILE, fact if path.exists() else "no such file", loc=Loc(str(path)))


def print_targets() -> None:
    """`ttfsc targets`."""
    for name in chip_names():
        chip = load_chip(name)
        figures = ", ".join(
            f"{key} {figure if figure is not None else 'not modelled'}" for key, figure in chip.figures.items()
        )
        print(f"{name}: {chip.title}\n    {figures}")


def print_versions(version: str) -> None:
    """`ttfsc version`."""
    print(f"ttfsc {version}, Python {platform.python_version()}")
    for package in ("numpy", "lark", "jinja2", "onnx", "onnxruntime", "torch", "safetensors"):
        try:
            print(f"  {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package} not installed")


def _net_and_files(path: Path) -> tuple[Net, dict[str, bytes]]:
    if path.is_dir():
        return load_compiled(path)
    return need_integer(load_model(Source(str(path))), path), {}


def _engine(net: Net, files: dict[str, bytes], name: str, path: Path, *, spikes: bool) -> Engine:
    if name == "ir":
        return lambda x: next(run_batches(net, x, batch=len(x)))
    part = part_of(files, name)
    if name == "c" and not part:
        from ttfsc.backends.c import emit

        part = emit(net, cpu=DEFAULT_CPU)
    if name == "onnx":
        return onnx_engine(part or onnx_files(net), spikes=spikes)
    if not part:
        fact = f"engine {name} needs a folder compiled with --target {name}"
        raise TtfsError.one(codes.OPTION, fact, loc=Loc(str(path)))
    return c_engine(part) if name == "c" else noc_engine(part)


def _compare_source(net: Net, source: Net, samples: Samples, folder: Path) -> None:
    """The real-valued source beside the compiled net: answers, accuracy where labels are known, errors by layer."""
    recorded = options_of(folder).get("ranges")
    ranges = cast("dict[str, float]", recorded) if isinstance(recorded, dict) else {}
    with progress("source model", len(samples)) as advance:
        comparison = compare(net, source, samples.x, samples.y, ranges=ranges, advance=advance)
    for line in comparison.lines():
        print(line)


def _accuracy(labels: Array, samples: Samples) -> str:
    if samples.y is None:
        return ""
    return f", accuracy {_percent(int((labels == samples.y).sum()), len(samples))}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"


def _inspect_net(net: Net) -> None:
    stage = "mapped" if net.mapped else "quantized" if is_integer(net) else "real-valued"
    print(f"net @{net.name}: {stage}, {len(net.ops)} ops, {len(net.arrays)} arrays, input scale {net.input.scale:.6g}")
    print(show(net.with_map(None)), end="")
    if net.mapped:
        used = len(net.mapped.cores)
        width, height = net.mapped.mesh
        print(f"mapped to {net.mapped.chip}: {used} cores of a {width}x{height} mesh, {len(net.mapped.routes)} routes")


def _describe(name: str, array: Array) -> None:
    values = f"from {array.min()} to {array.max()}" if array.size else "empty"
    print(f"{name:24} {array.dtype} {list(array.shape)} {values}")
