"""A .pt2 archive of torch.export to a Net, read without torch: a zip with the graph as JSON and weights as raw bytes.

torch.export.load would unpickle whatever the archive holds (tensors marked `use_pickle`, custom objects), which can run
any code. Here only the graph, the weight tables and raw tensors are read; sample inputs are not looked at, and an
archive whose weights are pickles is refused.

    models/<name>.json                              the graph: ATen nodes, signature, tensor sizes
    data/weights/<name>_weights_config.json         parameter -> file, number type, sizes; likewise constants
    data/weights/weight_<i>                         raw little-endian numbers
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from ttfsc.frontends.lowering import Lowering
from ttfsc.frontends.torch_rules import RULES, reason
from ttfsc.frontends.value import BATCH, BROKEN, RAW, Constant, Declared, Refused
from ttfsc.ir import Array, Fault, Loc, Net, Shape, TtfsError, codes, show_shape

MAX_JSON = 256 << 20
MAX_BYTES = 8 << 30
# torch's numbers for its number types; bfloat16 is read as its bits and widened
_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f2", 7: "<f4", 8: "<f8", 12: "?", 13: "<u2"}
_BFLOAT16 = 13
_STACK_LINE = re.compile(r'File "([^"]*)", line (\d+)')


class _DamagedError(Exception):
    """The archive is not what torch.export.save writes."""


def load_archive(path: Path, declared: Declared) -> Net:
    """Lower an exported program. Raises TtfsError with everything that is wrong with it."""
    loc = Loc(str(path))
    if not path.is_file():
        raise TtfsError.one(codes.FILE, "no such file", loc=loc)
    try:
        with zipfile.ZipFile(path) as file:
            archive = _Archive(file)
            program, tensors = archive.program(), archive.tensors()
        walk = _Walk(program, tensors, re.sub(r"[^A-Za-z0-9_]", "_", path.stem), declared)
        return walk.run()
    except _DamagedError as e:
        raise TtfsError.one(codes.DAMAGED, str(e), loc=loc) from e
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RecursionError, NotImplementedError, RuntimeError) as e:
        fact = f"is no readable .pt2 archive: {(str(e) or type(e).__name__).splitlines()[0]}; export it again"
        raise TtfsError.one(codes.DAMAGED, fact, loc=loc) from e
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        fact = f"its graph is not in the form that torch.export.save writes ({type(e).__name__}: {e}); export it again"
        raise TtfsError.one(codes.DAMAGED, fact, loc=loc) from e


class _Archive:
    """The members of the zip, each checked before it is read."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self.file = file
        names = [i.filename for i in file.infolist()]
        total = sum(i.file_size for i in file.infolist())
        if total > MAX_BYTES:
            raise _DamagedError(f"unpacks to {total} bytes, more than the {MAX_BYTES} allowed")
        models = [n for n in names if re.fullmatch(r"(?:[^/]+/)?models/[^/]+\.json", n)]
        if len(models) != 1:
            old = "; it was written by torch before 2.8: export it again with a newer one"
            found = old if "serialized_exported_program.json" in [n.rsplit("/", 1)[-1] for n in names] else ""
            raise _DamagedError(f"holds {len(models)} models/*.json, must be exactly one{found}")
        self.model = models[0].rsplit("/", 1)[1].removesuffix(".json")
        self.root = models[0].removesuffix(f"models/{self.model}.json")
        self.names = set(names)

    def program(self) -> dict[str, Any]:
        """The exported program."""
        return self.table(f"{self.root}models/{self.model}.json")

    def tensors(self) -> dict[str, Array]:
        """Parameters, buffers and constants by their names in the module."""
        found = dict[str, Array]()
        for kind in ("weights", "constants"):
            folder = f"{self.root}data/{kind}/"
            legacy = f"{folder}{self.model}.pt"
            if legacy in self.names:
                raise _DamagedError(
                    f"{legacy} is a pickle, which is never loaded; export again with torch 2.8 or newer"
                )
            config = self.table(f"{folder}{self.model}_{kind}_config.json").get("config", {})
            for name, entry in cast("dict[str, dict[str, Any]]", config).items():
                if entry["use_pickle"] or not str(entry["path_name"]).startswith(("weight_", "tensor_")):
                    raise _DamagedError(
                        f"{name} is stored as a pickle, which is never loaded; make it a plain dense tensor"
                    )
                found[name] = self.tensor(f"{folder}{entry['path_name']}", name, entry["tensor_meta"])
        return found

    def tensor(self, member: str, name: str, meta: dict[str, Any]) -> Array:
        """One tensor out of its raw storage; every number in `meta` is checked first."""
        sizes, strides = (tuple(int(n["as_int"]) for n in meta[key]) for key in ("sizes", "strides"))
        offset, kind = int(meta["storage_offset"]["as_int"]), int(meta["dtype"])
        if kind not in _TYPES:
            raise _DamagedError(f"{name} has number type {kind} of torch, which is not understood; export in float32")
        if len(sizes) != len(strides) or len(sizes) > 8 or min((*sizes, *strides, offset, 0)) < 0:
            raise _DamagedError(
                f"{name} has sizes {sizes}, strides {strides}, offset {offset}, which describe no tensor"
            )
        dtype = np.dtype(_TYPES[kind])
        raw = np.frombuffer(self.read(member, MAX_BYTES), np.uint8)
        whole = raw[: raw.size - raw.size % dtype.itemsize].view(dtype)
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if prod(sizes) and max(last + 1, prod(sizes)) > whole.size:
            raise _DamagedError(f"{name} is {show_shape(sizes)}, but its storage holds {whole.size} numbers")
        if not prod(sizes):
            return np.zeros(sizes, np.float32)
        steps = tuple(s * dtype.itemsize for s in strides)
        view = np.lib.stride_tricks.as_strided(whole[offset:], sizes, steps, writeable=False)
        if kind == _BFLOAT16:
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view.astype(np.float32 if dtype.kind == "f" else dtype)

    def table(self, member: str) -> dict[str, Any]:
        """A JSON member that must hold a table."""
        try:
            value = json.loads(self.read(member, MAX_JSON).decode("utf-8"))
        except ValueError as e:
            raise _DamagedError(f"{member} is no JSON: {(str(e)).splitlines()[0]}") from e
        if not isinstance(value, dict):
            raise _DamagedError(f"{member} holds no table")
        return cast("dict[str, Any]", value)

    def read(self, member: str, limit: int) -> bytes:
        """The bytes of a member that must be there."""
        if member not in self.names:
            raise _DamagedError(f"{member} is missing")
        if self.file.getinfo(member).file_size > limit:
            raise _DamagedError(f"{member} unpacks to more than {limit} bytes")
        return self.file.read(member)


class _Walk:
    """The ATen nodes, in order."""

    def __init__(self, program: dict[str, Any], tensors: dict[str, Array], name: str, declared: Declared) -> None:
        self.graph = program["graph_module"]["graph"]
        self.signature = program["graph_module"]["signature"]
        self.tensors = tensors
        self.values = dict[str, object]()
        batch, shape = self.bind_inputs()
        given = declared.shape
        self.low = Lowering(name, Declared(given or shape, declared.range, declared.scale))
        self.low.batch = batch
        if given is not None and shape is not None and given != shape:
            fact = f"says {show_shape(given)}, but the archive was exported for {show_shape(shape)}"
            self.low.faults.append(Fault(codes.OPTION, Loc(), "--input-shape", fact))

    def bind_inputs(self) -> tuple[int | None, Shape | None]:
        """Names of parameters to constants, the user's input to RAW; its batch if fixed, and its shape without."""
        shapes, inputs = self.graph["tensor_values"], list[str]()
        for spec in self.signature["input_specs"]:
            ((kind, body),) = spec.items()
            if kind == "user_input":
                name = body["arg"].get("as_tensor", {}).get("name")
                if name is None:
                    raise _DamagedError(
                        "the exported program takes an input that is no tensor; export forward(image) alone"
                    )
                inputs.append(name)
                self.values[name] = RAW
            elif kind in ("parameter", "buffer", "tensor_constant"):
                key = next(body[k] for k in ("parameter_name", "buffer_name", "tensor_constant_name") if k in body)
                if key not in self.tensors:
                    raise _DamagedError(f"{key} is in the graph, but not among the weights")
                self.values[body["arg"]["name"]] = Constant(key, self.tensors[key])
            else:
                raise _DamagedError(f"the exported program takes an input of kind {kind}; export a plain module")
        if len(inputs) != 1:
            raise _DamagedError(f"the exported program takes {len(inputs)} inputs, must be exactly one image")
        batch, *sizes = [n.get("as_int") for n in shapes[inputs[0]]["sizes"]]
        fixed = tuple(int(n) for n in sizes if n is not None)
        return batch, fixed if len(fixed) == len(sizes) else None

    def run(self) -> Net:
        """Lower what reaches the output."""
        outputs = [out["as_tensor"]["name"] for out in self.graph["outputs"] if out.get("as_tensor")]
        if len(outputs) != 1 or len(self.graph["outputs"]) != 1:
            count = len(self.graph["outputs"])
            fact = f"the program returns {count} values, must be the class scores alone; export forward in eval()"
            self.low.faults.append(Fault(codes.UNSUPPORTED, Loc(origin="output"), "", fact))
            raise TtfsError(self.low.faults)
        needed = self.reaching(outputs[0])
        for node in self.graph["nodes"]:
            if any(name in needed for name in _results(node)):
                self.visit(node)
        return self.low.finish(self.values.get(outputs[0], BROKEN))

    def reaching(self, output: str) -> set[str]:
        """Names that the output depends on."""
        needed = {output}
        for node in reversed(self.graph["nodes"]):
            if any(name in needed for name in _results(node)):
                needed.update(name for arg in node["inputs"] for name in _names(arg["arg"]))
        return needed

    def visit(self, node: dict[str, Any]) -> None:
        """Lower one node."""
        names, target = _results(node), str(node["target"])
        path, file, line, whole = _place(node.get("metadata") or {})
        name = _rule_name(target)
        loc = Loc(file, line, path or "forward")
        args = [self.argument(a["arg"]) for a in node["inputs"] if a.get("kind", 1) != 2]
        kwargs = {str(a["name"]): self.argument(a["arg"]) for a in node["inputs"] if a.get("kind", 1) == 2}
        result: object = BROKEN
        if BROKEN not in args and BROKEN not in kwargs.values():
            base = path if whole else f"{path}.{names[0]}" if path else names[0]
            result = self.low.step(base, loc, f"'{name}'", lambda: self.lower(name, args, kwargs))
        several = result if isinstance(result, tuple) and len(names) > 1 else [result] * len(names)  # pyright: ignore[reportUnknownVariableType]
        for own, value in zip(names, several, strict=False):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            self.values[own] = value

    def lower(self, name: str, args: list[object], kwargs: dict[str, object]) -> object:
        """Apply the rule of one ATen op; what only moves data about is left out of sight."""
        kwargs = {
            k: v for k, v in kwargs.items() if k not in ("memory_format", "dtype", "layout", "device", "pin_memory")
        }
        rule = RULES.get(name)
        if rule is None:
            raise Refused(reason(name))
        try:
            return rule.call(self.low, *args, **kwargs)
        except TypeError as e:
            if "argument" not in str(e):
                raise
            raise Refused(f"{e}; this argument is not understood: leave it at its default") from e

    def argument(self, arg: dict[str, Any]) -> object:
        """One serialised argument as a value, constant or plain number."""
        ((kind, body),) = arg.items()
        match kind:
            case "as_tensor":
                return self.values.get(body["name"], BROKEN)
            case "as_none":
                return None
            case "as_int" | "as_float" | "as_bool" | "as_string" | "as_ints" | "as_floats" | "as_bools":
                return body
            case "as_sym_int":
                return self.number(body)
            case "as_sym_ints":
                return [self.number(n) for n in body]
            case "as_optional_tensor":
                return self.argument(body)
            case "as_tensors":
                return [self.values.get(t["name"], BROKEN) for t in body]
            case "as_memory_format" | "as_scalar_type" | "as_layout" | "as_device":
                return None
            case _:
                return BROKEN

    def number(self, n: dict[str, Any]) -> object:
        """A size: a number, or a name, which only the batch has."""
        if "as_int" in n:
            return n["as_int"]
        return self.values.get(n.get("as_name", ""), BATCH)


def _results(node: dict[str, Any]) -> list[str]:
    """Names that a node defines."""
    names = list[str]()
    for out in node["outputs"]:
        ((kind, body),) = out.items()
        if kind == "as_tensor":
            names.append(body["name"])
        elif kind == "as_tensors":
            names += [t["name"] for t in body]
        elif kind == "as_sym_int":
            names.append(body.get("as_name", ""))
    return names


def _names(arg: dict[str, Any]) -> list[str]:
    """Names that an argument reads."""
    found, stack = list[str](), [cast("object", arg)]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            table = cast("dict[str, object]", item)
            found += [v for k, v in table.items() if k in ("name", "as_name") and isinstance(v, str)]
            stack += table.values()
        elif isinstance(item, list):
            stack += cast("list[object]", item)
    return found


def _rule_name(target: str) -> str:
    """torch.ops.aten.conv2d.default -> aten.conv2d; an overload that has a rule of its own keeps its name."""
    full = target.removeprefix("torch.ops.").removeprefix("#")
    if full in RULES:
        return full
    return full.rsplit(".", 1)[0] if full.count(".") > 1 else full


def _place(metadata: dict[str, str]) -> tuple[str, str, int, bool]:
    """Module path, file and line of a node, as far as the archive tells; whether the module is a torch.nn layer."""
    stack = (metadata.get("nn_module_stack") or "").rsplit(";", 1)[-1].split(",")
    path, kind = (stack[1], stack[2]) if len(stack) >= 3 else ("", "")
    lines = [at for at in _STACK_LINE.findall(metadata.get("stack_trace") or "") if "/torch/nn/" not in at[0]]
    file, line = (Path(lines[-1][0]).name, int(lines[-1][1])) if lines else ("", 0)
    return path, file, line, bool(path) and kind.startswith("torch.nn.modules.") and ".container." not in kind
