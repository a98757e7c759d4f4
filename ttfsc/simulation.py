"""`ttfsc simulate`: a mapped network run from its mapping files alone; its figures, pictures and exports."""

import json
from functools import partial
from math import prod
from pathlib import Path

from ttfsc.backends.noc import MAPPING, Image, check_input, export_sanafe, read
from ttfsc.backends.noc.export_traffic import HEADER, traffic_table
from ttfsc.backends.noc.simulate import Fidelity, Simulator
from ttfsc.backends.noc.summary import lines, summary
from ttfsc.console import progress
from ttfsc.inputs import Samples, read_samples
from ttfsc.ir import Const, Loc, Spikes, TtfsError, codes, save_npz, ticks_of


def simulate_folder(
    folder: Path, *, inputs: Path, fidelity: Fidelity, limit: int, output: Path | None, svg: Path | None,
    traffic: Path | None, sanafe: Path | None, sanafe_replay: Path | None, spikes: Path | None,
) -> None:  # fmt: skip
    """Run DIR/noc (or DIR itself) on inputs, print the figures, and write what was asked for.

    limit: at most this many inputs, 0 = all. Raises TtfsError for damaged files and inputs that do not fit.
    """
    image = read(folder / "noc" if (folder / "noc" / MAPPING).is_file() else folder)
    samples = samples_for(image, inputs)
    samples = samples.first(limit) if limit else samples
    simulator = Simulator(image)
    with progress(f"simulating ({fidelity})", len(samples)) as advance:
        found = simulator.run(samples.x, fidelity=fidelity, keep=spikes is not None, done=advance)
    table = summary(found, samples.y)
    for line in lines(table):
        print(line)
    if table["correct"] is not None:
        print(f"accuracy {100 * table['correct'] / len(samples):.2f} % on {len(samples)} inputs")
    if output is not None:
        write(output, (json.dumps(table, indent=1, allow_nan=False) + "\n").encode())
    if svg is not None:
        from ttfsc.pictures import pictures

        write_all(svg, pictures(table))
    if traffic is not None:
        write(traffic, traffic_of(simulator, samples).encode())
    if sanafe is not None:
        write_all(sanafe, export_sanafe.sanafe_files(simulator, samples.x[:1]))
    if sanafe_replay is not None:
        write_all(sanafe_replay, export_sanafe.sanafe_replay(simulator, samples.x[:1]))
    if spikes is not None:
        windows = {layer.layer.name: Spikes(layer.shape, layer.opens, layer.closes) for layer in image.layers}
        kept = {n: s for n, s in found.result.spikes.items() if n in windows}
        save_npz(spikes, {Const(f"ticks.{name}"): ticks_of(s, windows[name]) for name, s in kept.items()})


def samples_for(image: Image, inputs: Path) -> Samples:
    """X.npz as the image takes it."""
    return read_samples(inputs, image.input, prod(image.readout.shape), partial(check_input, image))


def traffic_of(simulator: Simulator, samples: Samples) -> str:
    """The traffic table of all inputs."""
    parts, size = [f"{HEADER}\n"], simulator.mesh.batch
    for start in range(0, len(samples), size):
        x = samples.x[start : start + size]
        values = simulator.values(x, simulator.mesh.run(x, batch=size))
        parts.append(traffic_table(simulator.fabric, simulator.fabric.packets(values), start))
    return "".join(parts)


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder that is made where it does not exist."""
    for name, data in files.items():
        write(folder / name, data)


def write(path: Path, data: bytes) -> None:
    """Write a file. Raises TtfsError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as e:
        raise TtfsError.one(codes.FILE, f"cannot be written: {e.strerror or e}", loc=Loc(str(path))) from e
