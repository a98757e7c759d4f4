"""Helpers of the tests of ttfsc.nn."""

from typing import Any

import torch
from torch import Tensor

import ttfsc.nn as tnn


def numbers(t: Tensor | None) -> Any:
    """The tensor as nested lists of python numbers."""
    assert t is not None
    return t.numpy(force=True).tolist()


def values(out: Tensor | tnn.Spikes) -> Tensor:
    """The spike values of either family."""
    return out.value if isinstance(out, tnn.Spikes) else out


def seed(number: int) -> None:
    """torch.manual_seed, which torch leaves without types."""
    torch.manual_seed(number)  # pyright: ignore[reportUnknownMemberType]


def backward(loss: Tensor) -> None:
    """loss.backward(), which torch leaves without types."""
    loss.backward()  # pyright: ignore[reportUnknownMemberType]
