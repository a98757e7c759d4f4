"""A net in files: `net.ttfs` (text with the hashes of its arrays) and `net.npz` beside it."""

from pathlib import Path

from ttfsc.ir import codes
from ttfsc.ir.arrays import EMPTY, load_npz, save_npz
from ttfsc.ir.faults import Fault, Loc, TtfsError
from ttfsc.ir.net import Net
from ttfsc.ir.parse import parse_faults
from ttfsc.ir.show import show


def save(net: Net, path: Path) -> None:
    """Write `path` (.ttfs) and the .npz beside it. Same net, same bytes."""
    save_npz(path.with_suffix(".npz"), net.arrays)
    path.write_text(show(net, hashes=True), "utf-8")


def load(path: Path) -> Net:
    """Read a .ttfs file with the .npz beside it. Raises TtfsError with everything that is wrong with both."""
    loc = Loc(str(path))
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        fact = "no such file" if isinstance(e, FileNotFoundError) else f"cannot be read as text: {e}"
        raise TtfsError.one(codes.FILE, fact, loc=loc) from e
    pool, faults = EMPTY, list[Fault]()
    beside = path.with_suffix(".npz")
    if beside.exists():
        try:
            pool = load_npz(beside)
        except TtfsError as e:
            faults += e.faults
    net, wrong = parse_faults(text, pool, source=str(path))
    if faults:  # a net without its arrays would only complain about each of them once more
        wrong = [f for f in wrong if f.code != codes.NAME or "@" not in f.fact + f.subject]
    if faults or wrong:
        raise TtfsError([*faults, *wrong])
    return net
