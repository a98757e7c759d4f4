"""A space-filling curve over any rectangle: neighbours on the curve are neighbours on the mesh.

The generalised Hilbert curve of J. Cerveny ("gilbert", 2019), which needs no power of two.
"""

from collections.abc import Iterator

Place = tuple[int, int]


def curve(width: int, height: int) -> Iterator[Place]:
    """Every place of a width x height mesh once, each next to the one before (diagonally once where sides are odd)."""
    if width >= height:
        yield from _part((0, 0), (width, 0), (0, height))
    else:
        yield from _part((0, 0), (0, height), (width, 0))


def _part(start: Place, a: Place, b: Place) -> Iterator[Place]:
    """The block from `start`, its main side along a, the other along b."""
    (x, y), (ax, ay), (bx, by) = start, a, b
    w, h = abs(ax + ay), abs(bx + by)
    da, db = (_sign(ax), _sign(ay)), (_sign(bx), _sign(by))
    if h == 1 or w == 1:
        step = da if h == 1 else db
        yield from ((x + i * step[0], y + i * step[1]) for i in range(w if h == 1 else h))
        return
    a2, b2 = (_half(ax), _half(ay)), (_half(bx), _half(by))
    w2, h2 = abs(a2[0] + a2[1]), abs(b2[0] + b2[1])
    if 2 * w > 3 * h:
        if w2 % 2 and w > 2:
            a2 = a2[0] + da[0], a2[1] + da[1]
        yield from _part(start, a2, b)
        yield from _part((x + a2[0], y + a2[1]), (ax - a2[0], ay - a2[1]), b)
        return
    if h2 % 2 and h > 2:
        b2 = b2[0] + db[0], b2[1] + db[1]
    yield from _part(start, b2, a2)
    yield from _part((x + b2[0], y + b2[1]), a, (bx - b2[0], by - b2[1]))
    corner = x + ax - da[0] + b2[0] - db[0], y + ay - da[1] + b2[1] - db[1]
    yield from _part(corner, (-b2[0], -b2[1]), (-(ax - a2[0]), -(ay - a2[1])))


def _sign(n: int) -> int:
    return (n > 0) - (n < 0)


def _half(n: int) -> int:
    """Towards minus infinity, as the curve's author has it."""
    return n // 2
