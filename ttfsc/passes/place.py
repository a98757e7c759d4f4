"""Put the cores on the mesh.

    core 17 at 17,0 ...   =>   core 17 at 0,1 ...

`row-major`: in the order of their numbers, x fastest. Routes name cores, not places, so they stay valid.
"""

from dataclasses import replace

from ttfsc.ir import Fault, Loc, Mapped, Net, TtfsError, codes

SCHEMES = ("row-major",)


def place(net: Net, *, scheme: str = "row-major") -> Net:
    """The partitioned net with a place for every core. Raises TtfsError: unknown scheme, no map, mesh too small."""
    if scheme not in SCHEMES:
        raise TtfsError.one(codes.OPTION, f"scheme={scheme} must be {' or '.join(SCHEMES)}", subject="place")
    mapped = map_of(net)
    width, height = mapped.mesh
    if len(mapped.cores) > width * height:
        fact = f"{len(mapped.cores)} cores do not fit the {width}x{height} mesh: run partition for a larger chip"
        raise TtfsError.one(codes.CAPACITY, fact, subject=f"net @{net.name}")
    cores = tuple(replace(core, place=(i % width, i // width)) for i, core in enumerate(mapped.cores))
    return net.with_map(replace(mapped, placement=scheme, cores=cores))


def map_of(net: Net) -> Mapped:
    """The net's map; TtfsError where there is none."""
    if net.mapped is None:
        fact = "has no map section: run partition first"
        raise TtfsError([Fault(codes.STAGE, Loc(net.name), f"net @{net.name}", fact)])
    return net.mapped
