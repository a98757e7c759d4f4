"""A net in files: `net.ttfs` (text with the hashes of its arrays) and `net.npz` beside it."""

from pathlib import Path

from ttfsc.ir import codes
from ttfsc.ir.arrays import EMPTY, load_npz, save_npz
from ttfsc.ir.faults import Fault, Loc, TtfsError
from ttfsc.ir.net import Net, consts_of
from ttfsc.ir.parse import MAX_TEXT, parse_faults
from ttfsc.ir.show import show


def save(net: Net, path: Path) -> None:
    """Write `path` (.ttfs) and the .npz beside it. Same net, same bytes."""
    save_npz(path.with_suffix(".npz"), net.arrays)
    path.write_text(show(net, hashes=True), "utf-8")


def load(path: Path) -> Net:
    """Read a .ttfs file with the .npz beside it. Raises TtfsError with everything that is wrong with both."""
    text = _text(path)
    beside = path.with_suffix(".npz")
    pool, faults = EMPTY, list[Fault]()
    try:
        pool = load_npz(beside)
    except TtfsError as e:
        faults += e.faults
    net, wrong = parse_faults(text, pool, source=str(path))
    if any(consts_of(op) for op in net.ops) or beside.exists():
        # a net without its arrays would only complain about each of them once more
        wrong = [*faults, *(f for f in wrong if not (faults and _about_a_missing_array(f)))]
    if wrong:
        raise TtfsError(wrong)
    return net


def _text(path: Path) -> str:
    loc = Loc(str(path))
    try:
        if path.stat().st_size > 4 * MAX_TEXT:  # UTF-8 takes at most four bytes a character
            fact = f"{path.stat().st_size} bytes, more than the {MAX_TEXT} characters a net may have"
            raise TtfsError.one(codes.SYNTAX, fact, loc=loc)
        return path.read_text("utf-8")
    except FileNotFoundError as e:
        raise TtfsError.one(codes.FILE, "no such file", loc=loc) from e
    except (OSError, ValueError) as e:
        raise TtfsError.one(codes.FILE, f"cannot be read as text: {e}", loc=loc) from e


def _about_a_missing_array(fault: Fault) -> bool:
    return fault.code == codes.NAME and (fault.fact.endswith("is not in the array pool") or fault.subject[:1] == "@")
