"""From what a user names on the command line to a Net: text, torch, ONNX, or a compiled folder."""

from dataclasses import dataclass
from pathlib import Path

from ttfsc.frontends.tensors import PICKLES
from ttfsc.ir import Fault, Loc, Net, Shape, TtfsError, codes, is_integer, load
from ttfsc.output import read_folder


@dataclass(frozen=True)
class Source:
    """Which model, and what it does not say itself."""

    model: str  # x.ttfs, x.pt2, x.onnx, file.py:factory, or a folder made by `ttfsc compile`
    weights: Path | None = None
    input_shape: Shape | None = None
    input_range: tuple[int, int] | None = None
    input_scale: float | None = None
    seen: tuple[int, int, float] | None = None  # low, high, scale of the sample inputs, where there are any


def load_model(source: Source) -> Net:
    """The net that `source` names. Raises TtfsError with everything that is wrong with it."""
    model = source.model
    path = Path(model)
    if path.suffix == ".ttfs" or path.is_dir():
        _refuse_options(source)
        return load_compiled(path)[0] if path.is_dir() else load(path)
    if path.suffix == ".pt2" or ".py:" in model:
        from ttfsc.frontends.torch_load import load_torch

        return load_torch(
            model, weights=source.weights, input_shape=source.input_shape,
            input_range=source.input_range, input_scale=source.input_scale,
        )  # fmt: skip
    loc = Loc(model)
    if path.suffix == ".onnx":
        if source.weights is not None:
            raise TtfsError.one(codes.OPTION, "an .onnx file holds its own weights; leave --weights out", loc=loc)
        from ttfsc.frontends.onnx_load import load_onnx

        return load_onnx(
            path, input_shape=source.input_shape, input_range=source.input_range,
            input_scale=source.input_scale, seen=source.seen,
        )  # fmt: skip
    if path.suffix in PICKLES:
        fact = (
            "pickles can run any code and are never loaded; save the weights with safetensors.torch.save_file and name "
            "the network as file.py:factory with --weights, or export it with torch.export.save as .pt2"
        )
        raise TtfsError.one(codes.FILE, fact, loc=loc)
    if path.suffix == ".py":
        raise TtfsError.one(codes.FILE, f"name the function that builds the network: {model}:factory", loc=loc)
    known = "x.ttfs, x.onnx, x.pt2, file.py:factory, or a folder made by `ttfsc compile`"
    raise TtfsError.one(codes.FILE, f"is no model that ttfsc reads; it reads {known}", loc=loc)


def load_compiled(folder: Path) -> tuple[Net, dict[str, bytes]]:
    """The net of an output folder and all its files, after each has been checked against its hash."""
    files = read_folder(folder)
    return load(folder / "net.ttfs"), files


def need_integer(net: Net, path: Path) -> Net:
    """The net, or TtfsError: only quantised nets have exact spike times."""
    if not is_integer(net):
        fact = "is not quantised, so it cannot be run: run `ttfsc compile`, or `ttfsc opt -p quantize`"
        raise TtfsError.one(codes.STAGE, fact, loc=Loc(str(path)), subject=f"net @{net.name}")
    return net


def _refuse_options(source: Source) -> None:
    given = {
        "--weights": source.weights, "--input-shape": source.input_shape,
        "--input-range": source.input_range, "--input-scale": source.input_scale,
    }  # fmt: skip
    fact = "is for torch and ONNX models; a .ttfs net has it inside"
    faults = [Fault(codes.OPTION, Loc(source.model), name, fact) for name, value in given.items() if value is not None]
    if faults:
        raise TtfsError(faults)
