"""A slice of the sweep of random layers (`make sweep` runs all of it)."""

import pytest
from c_build import need
from sweep import BUILDS, LAYERS, check, piled_case, sweep, wide_case

SLICE = (
    (1000, ("gcc-O0-sanitized", "gcc-O3")),
    (1001, ("clang-O0-sanitized", "gcc-O3-native-plain")),
    (1002, ("gcc-O0-sanitized", "clang-O3")),  # streams
    (1003, ("clang-O0-sanitized", "gcc-O3-native")),
)


@pytest.mark.parametrize(("seed", "builds"), SLICE)
def test_slice(seed: int, builds: tuple[str, ...]) -> None:
    for build in builds:
        need(BUILDS[build].compiler)
    found = sweep(seed, builds, every=False, wide=False)
    assert found.layers >= LAYERS
    assert not found.wrong, found.wrong[0]


@pytest.mark.parametrize("build", ["gcc-O0-sanitized", "gcc-O3-native"])
def test_wide_layers(build: str) -> None:
    one = wide_case(1004)
    assert b"gather_half" in one.files["m.c"]
    assert check(one, BUILDS[build]) == ""


@pytest.mark.parametrize("build", ["gcc-O0-sanitized", "gcc-O3-native", "gcc-O3-native-plain"])
def test_piled_layers(build: str) -> None:
    one = piled_case(1008)
    assert b"slide_tile" in one.files["m.c"] and b"stride_tile" in one.files["m.c"]
    assert check(one, BUILDS[build]) == ""
