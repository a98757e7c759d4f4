"""What people see: faults in red, progress over a second, nothing of it when no terminal listens."""

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Timer

from ttfsc.ir import TtfsError

Advance = Callable[[int], None]
_PATIENCE = 1.0  # seconds before a bar appears


def print_faults(error: TtfsError) -> None:
    """Every fault on its own line, on stderr."""
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    for fault in error.faults:
        print(str(fault).replace("error[", f"{red}error[", 1).replace("]:", f"]:{plain}", 1), file=sys.stderr)
    codes = sorted({f.code for f in error.faults})
    hint = ", ".join(f"ttfsc explain {code}" for code in codes[:3])
    print(f"{len(error.faults)} error{'s' * (len(error.faults) > 1)}; more: {hint}", file=sys.stderr)


def show_notes(verbose: bool) -> None:
    """Print what frontends and passes decided or declined; with `verbose` also what every pass did."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("ttfsc.frontends").setLevel(logging.INFO)


@contextmanager
def progress(what: str, total: int) -> Generator[Advance]:
    """A progress bar on stderr once the work has taken a second; silent when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    bar = Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(),
                   console=Console(stderr=True), transient=True)  # fmt: skip
    task = bar.add_task(what, total=total)
    shown = Timer(_PATIENCE, bar.start)  # a long first step is seen too, not only its end
    shown.daemon = True
    shown.start()
    try:
        yield lambda n: bar.advance(task, n)
    finally:
        shown.cancel()
        shown.join()
        bar.stop()
