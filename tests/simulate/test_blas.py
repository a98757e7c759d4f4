"""Matrix products of cores run on one thread, and the caller's setting comes back."""

import pytest

from ttfsc.backends.noc import blas


def test_one_thread_inside_and_as_before_outside() -> None:
    found = blas._controls()  # pyright: ignore[reportPrivateUsage]
    if found is None:
        pytest.skip("numpy is not linked to OpenBLAS here")
    get, put = found
    before = get()
    try:
        put(2)
        wanted = get()  # 1 where there is one processor only
        with pytest.raises(KeyError), blas.one_thread():
            assert get() == 1
            raise KeyError
        assert get() == wanted
    finally:
        put(before)


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_controls", lambda: None)
    with blas.one_thread():
        pass
