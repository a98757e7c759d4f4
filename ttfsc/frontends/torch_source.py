"""`file.py:factory` to a torch module with its weights: the user's own file is imported, and its factory is called."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ttfsc.frontends.tensors import load_tensors
from ttfsc.ir import Array, Fault, Loc, TtfsError, codes, show_shape


@dataclass(frozen=True)
class Spec:
    """`file.py:factory(bits=4)`: which file, which name in it, called with what."""

    file: Path
    name: str
    options: dict[str, Any]

    @property
    def loc(self) -> Loc:
        """The file, as messages name it."""
        return Loc(str(self.file))


def parse_spec(text: str) -> Spec:
    """Read `file.py:factory` or `file.py:factory(key=literal, ...)`. Raises TtfsError for anything else."""
    loc, form = Loc(text), "must be file.py:factory or file.py:factory(bits=4, ...) with literal values"
    at = text.rfind(".py:")
    if at < 0:
        raise TtfsError.one(codes.FILE, form, loc=loc)
    file, call = Path(text[: at + 3]), text[at + 4 :].strip()
    try:
        tree = ast.parse(call, mode="eval").body
        if isinstance(tree, ast.Name):
            return Spec(file, tree.id, {})
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
            options = {k.arg: ast.literal_eval(k.value) for k in tree.keywords if k.arg is not None}
            if len(options) == len(tree.keywords):
                return Spec(file, tree.func.id, options)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    raise TtfsError.one(codes.FILE, form, loc=loc)


def build(spec: Spec, seed: int) -> nn.Module:
    """The module of `spec` in evaluation mode. Raises TtfsError where the file or its factory fails.

    Random numbers that the factory draws follow from `seed`; the caller's generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]), _beside(spec.file):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        return _call(spec, _found(spec, _imported(spec))).eval()


@contextmanager
def _beside(file: Path) -> Generator[None]:
    """Imports of the user's file find its neighbours."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _imported(spec: Spec) -> ModuleType:
    if not spec.file.is_file():
        raise TtfsError.one(codes.FILE, "no such file", loc=spec.loc)
    name = f"_ttfsc_model_{spec.file.stem}"
    found = importlib.util.spec_from_file_location(name, spec.file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses of the file look themselves up here
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as e:
        sys.modules.pop(name, None)
        raise TtfsError.one(codes.FILE, f"cannot be imported: {_said(e)}", loc=_place(e, spec)) from e
    return module


def _found(spec: Spec, module: ModuleType) -> object:
    found = getattr(module, spec.name, None)
    if found is None:
        own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        names = ", ".join(n for n in own if not n.startswith("_")) or "no function or class"
        raise TtfsError.one(codes.FILE, f"has no {spec.name}; it has {names}", loc=spec.loc)
    return found


def _call(spec: Spec, found: object) -> nn.Module:
    """The factory's module; a module that the file holds ready is taken as it is."""
    subject = f"factory {spec.name}"
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise TtfsError.one(codes.FILE, f"is {type(found).__name__}, not a function", loc=spec.loc, subject=subject)
        _check_call(spec, found, subject)
        try:
            found = found(**spec.options)
        except (Exception, SystemExit) as e:
            raise TtfsError.one(codes.FILE, f"failed: {_said(e)}", loc=_place(e, spec), subject=subject) from e
    if not isinstance(found, nn.Module):
        fact = f"returned {type(found).__name__}, not a torch.nn.Module; return the network"
        raise TtfsError.one(codes.FILE, fact, loc=spec.loc, subject=subject)
    return found


def _check_call(spec: Spec, found: Any, subject: str) -> None:
    try:
        inspect.signature(found).bind(**spec.options)
    except TypeError as e:
        parameters = inspect.signature(found).parameters.items()
        missing = "missing" in str(e)
        needed = ", ".join(f"{n}=..." for n, p in parameters if not missing or p.default is p.empty)
        hint = f"give them: {spec.file}:{spec.name}({needed})" if missing else f"it takes ({needed})"
        raise TtfsError.one(codes.OPTION, f"{e}; {hint}", loc=spec.loc, subject=subject) from e
    except ValueError:  # no signature to ask, as some built-in classes: the call itself will tell
        return


def _said(e: BaseException) -> str:
    return f"{type(e).__name__}: {(str(e) or 'without a message').splitlines()[0]}"


def _place(e: BaseException, spec: Spec) -> Loc:
    """The line of the user's file in which it happened."""
    if isinstance(e, SyntaxError) and e.lineno and e.filename and Path(e.filename).name == spec.file.name:
        return Loc(str(spec.file), e.lineno)
    files = (str(spec.file), str(spec.file.resolve()))
    own = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename in files]
    return Loc(str(spec.file), own[-1] or 0) if own else spec.loc


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the tensors of a .safetensors file into the model's parameters and buffers by name.

    Raises TtfsError with every missing, unexpected, misshapen and non-finite tensor; then nothing was changed.
    """
    tensors, loc = load_tensors(path), Loc(str(path))
    state = cast("dict[str, torch.Tensor]", model.state_dict())
    held = {state[name].data_ptr() for name in tensors if name in state}
    faults = list[Fault]()
    for name, own in state.items():
        if name in tensors:
            faults += _tensor_faults(name, own, tensors[name], loc)
        elif not name.endswith("num_batches_tracked") and not (own.numel() and own.data_ptr() in held):
            fact = f"is missing; the model wants {show_shape(own.shape) or 'a number'}"
            faults.append(Fault(codes.ARRAY, loc, f"tensor {name}", fact))
    prefixed = {n.removeprefix("module.") for n in tensors} <= set(state)
    way_out = "save model.module of the DataParallel wrapper" if prefixed else "the model has no such tensor"
    unexpected = (name for name in tensors if name not in state)
    faults += [Fault(codes.ARRAY, loc, f"tensor {name}", f"is unexpected: {way_out}") for name in unexpected]
    if faults:
        raise TtfsError(faults)
    state = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}  # pyright: ignore[reportUnknownMemberType]
    model.load_state_dict(state, strict=False)


def _tensor_faults(name: str, own: torch.Tensor, given: Array, loc: Loc) -> Iterator[Fault]:
    subject = f"tensor {name}"
    if tuple(own.shape) != given.shape:
        fact = f"is {show_shape(given.shape) or 'a number'}, the model wants {show_shape(own.shape) or 'a number'}"
        yield Fault(codes.ARRAY, loc, subject, fact)
    if own.is_floating_point() and given.dtype.kind != "f":
        yield Fault(codes.ARRAY, loc, subject, f"holds {given.dtype}, the model wants real numbers")
    elif given.dtype.kind == "f" and not np.isfinite(given).all():
        first = [int(i) for i in np.argwhere(~np.isfinite(given))[0]]
        count = int((~np.isfinite(given)).sum())
        fact = (
            f"holds {count} values that are NaN or infinite, the first at {first}; take a checkpoint from before that"
        )
        yield Fault(codes.NONFINITE, loc, subject, fact)
