"""One thread for the many small matrix products of the cores.

numpy's wheels bring OpenBLAS, which spreads every product over all processors and lets its threads spin between them:
for the products of single cores that costs more than it gains, several times more on a machine with other work. Where
numpy was built with another library, products run as it likes: slower perhaps, never different.
"""

import ctypes
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

_PREFIXES = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads")


@contextmanager
def one_thread() -> Generator[None]:
    """Matrix products inside run on the calling thread, where that can be arranged. The setting is the process's."""
    found = _controls()
    if found is None:
        yield
        return
    get, put = found
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


@cache
def _controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's own functions, found through the extension module of numpy that is linked to it."""
    try:
        library: Any = ctypes.CDLL(str(import_module("numpy._core._multiarray_umath").__file__))
    except (ImportError, OSError):
        return None
    for prefix in _PREFIXES:
        get, put = (getattr(library, prefix.format(what), None) for what in ("get", "set"))
        if get is not None and put is not None:
            get.restype, put.argtypes, put.restype = ctypes.c_int, [ctypes.c_int], None
            return get, put
    return None
