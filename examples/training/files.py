"""Safetensors files: written whole or not at all, and read without running anything."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from examples.training.data import BadDataError


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file whole or not at all."""
    part = path.with_name(path.name + ".part")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part)
    part.replace(path)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which cannot hold code."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadDataError(f"{path}: cannot be read: {error}") from error
