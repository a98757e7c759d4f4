"""What the commands do: call the library, then say in plain lines what came out. Imported only when a command runs."""

import importlib.metadata
import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ttfsc.accuracy import compare
from ttfsc.backends import report as reporting
from ttfsc.compiler import (
    Options,
    compile_net,
    part_of,
    verify_files,
)
from ttfsc.console import progress
from ttfsc.hardware import chip_names, load_chip
from ttfsc.inputs import Samples, load_samples, range_of_samples
from ttfsc.ir import (
    Analog,
    Array,
    Fault,
    Loc,
    Net,
    TtfsError,
    codes,
    is_integer,
    load_npz,
    save,
    show,
)  # fmt: skip
from ttfsc.judge import Ranges, judged
from ttfsc.mapping import rates_of
from ttfsc.models import Source, load_compiled, load_model
from ttfsc.output import check_free, options_of, read_folder
from ttfsc.passes.place import map_of
from ttfsc.pipeline import Context, Pipeline, list_passes


def compile_to_folder(source: Source, output: Path, given: dict[str, Any], *, overwrite: bool, check: bool) -> None:
    """`ttfsc compile`."""
    keys = ("targets", "arch", "bits", "ticks", "calib_method", "pipeline", "seed", "cpu", "threads")
    mapping = ("partition", "share", "place", "objective", "restarts", "seconds", "pool", "routing")
    earlier: Path | None = given["start_from"]
    options = Options(
        **{key: given[key] for key in (*keys, *mapping)},
        delivery=given["delivery"] or "",
        rates=rates_of(given["rates"]),
        pin=" ".join(given["pin"]),
        avoid=" ".join(given["avoid"]),
        earlier=None if earlier is None else map_of(load_compiled(earlier)[0]),
    )
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
    ranges = Ranges(Path(source.model)) if source.model.endswith(".onnx") else None
    compiled = compile_net(
        net,
        options,
        calibration=calibration,
        observe=None if ranges is None else ranges.observe,
        samples=samples,
        check=check,
        say=print,
    )
    compiled.write(output, overwrite=overwrite)
    for sentence in [] if ranges is None else ranges.sentences():
        print(sentence)
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


def optimise(
    path: Path, *, pipeline: str, output: Path | None, calib: Path | None, arch: str, start_from: Path | None,
    print_ir_after_all: bool, time_passes: bool, verify_each: bool,
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
        earlier=None if start_from is None else map_of(load_compiled(start_from)[0]),
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


def verify_folder(folder: Path, inputs: Path, source: Source | None, noc_inputs: int) -> None:
    """`ttfsc verify`."""
    try:
        net, files = load_compiled(folder)
    except TtfsError as e:
        raise TtfsError([*e.faults, *_mapping_faults(folder, e)]) from e
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


def _mapping_faults(folder: Path, found: TtfsError) -> tuple[Fault, ...]:
    """Where mapping files are among those that were changed: which cores, routes or places of them."""
    from ttfsc.backends.noc import read

    if not any(Path(fault.loc.file).parent == folder / "noc" for fault in found.faults):
        return ()
    try:
        read(folder / "noc")
    except TtfsError as e:
        return tuple(e.faults)
    return ()


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


def inspect_file(path: Path, *, plan: bool) -> None:
    """`ttfsc inspect`."""
    if plan:
        _show_plan(path)
    elif path.is_dir():
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


def _show_plan(folder: Path) -> None:
    from ttfsc.backends.c.plan_text import choices_of, plan_lines

    model = part_of(read_folder(folder), "c").get("model.json")
    if model is None:
        fact = "has no C to show the kernel plan of: compile with --target c"
        raise TtfsError.one(codes.OPTION, fact, loc=Loc(str(folder)), subject="--plan")
    print(f"{folder / 'c'}: kernels for --cpu {options_of(folder).get('cpu')}")
    for line in plan_lines(choices_of(model, Loc(str(folder / "c" / "model.json")))):
        print(line)


def print_targets() -> None:
    """`ttfsc targets`."""
    for name in chip_names():
        chip = load_chip(name)
        print(f"{name}: {chip.title}; {chip.delivery}")
        for key, figure in chip.figures.items():
            if figure is not None:
                print(f"    {key:22} {figure!s:>20}   {figure.source}")
        print(f"    {'not modelled':22} {', '.join(k for k, f in chip.figures.items() if f is None)}")


def print_versions(version: str) -> None:
    """`ttfsc version`."""
    print(f"ttfsc {version}, Python {platform.python_version()}")
    for package in ("numpy", "lark", "jinja2", "onnx", "onnxruntime", "torch", "safetensors"):
        try:
            print(f"  {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package} not installed")


def _compare_source(net: Net, source: Net, samples: Samples, folder: Path) -> None:
    """The real-valued source beside the compiled net: answers, accuracy where labels are known, errors by layer."""
    recorded = options_of(folder).get("ranges")
    ranges = cast("dict[str, float]", recorded) if isinstance(recorded, dict) else {}
    with progress("source model", len(samples)) as advance:
        comparison = compare(net, source, samples.x, samples.y, ranges=ranges, advance=advance)
    for line in comparison.lines():
        print(line)


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
