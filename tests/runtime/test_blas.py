"""Every source of BLAS gives NumPy's products, for every layout and transposition."""

import ctypes
import os

import numpy as np
import pytest

from graphgrad.runtime import blas

SOURCES = ("numpy", "package", "callback")
SHAPES = [(3, 4, 5), (1, 1, 1), (1, 7, 2), (33, 17, 40), (4, 3, 0), (0, 3, 2), (3, 0, 2)]


def found(source):
    try:
        return blas.find_blas(source)
    except OSError:
        return pytest.skip(f"no BLAS from {source} here")


def call(library, routine, order, a, b, c, trans_a, trans_b, alpha, beta, strides):
    scalar = {"sgemm": ctypes.c_float, "dgemm": ctypes.c_double}[routine]
    size = {"ilp64": ctypes.c_int64, "lp64": ctypes.c_int32}[library.kind]
    flag, pointer = ctypes.c_int32, ctypes.c_void_p
    types = [flag] * 3 + [size] * 3 + [scalar, pointer, size, pointer, size, scalar, pointer, size]
    function = ctypes.CFUNCTYPE(None, *types)(library.addresses[routine])
    m, n = c.shape
    k = (a.shape[0] if trans_a else a.shape[1]) if a.size or b.size == 0 else b.shape[0]
    lda, ldb, ldc = strides
    codes = [blas.TRANSPOSE if t else blas.NO_TRANSPOSE for t in (trans_a, trans_b)]
    places = [x.ctypes.data for x in (a, b, c)]
    function(order, *codes, m, n, k, alpha, places[0], lda, places[1], ldb, beta, places[2], ldc)


def padded(random, rows, columns, dtype, by_rows, pad):
    """A random matrix whose lines are `pad` elements longer than they need be."""
    lines, length = (rows, columns) if by_rows else (columns, rows)
    whole = random.standard_normal((lines, length + pad)).astype(dtype)
    part = whole[:, :length]
    return (part if by_rows else part.T), max(length + pad, 1)


@pytest.mark.parametrize("by_rows", [True, False], ids=["rows", "columns"])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("routine", blas.ROUTINES)
@pytest.mark.parametrize("source", SOURCES)
def test_products_agree_with_numpy(source, routine, trans_a, trans_b, by_rows):
    library = found(source)
    dtype, tolerance = {"sgemm": (np.float32, 1e-4), "dgemm": (np.float64, 1e-11)}[routine]
    random = np.random.default_rng(1)
    order = blas.ROW_MAJOR if by_rows else blas.COLUMN_MAJOR
    for m, n, k in SHAPES:
        for alpha, beta, pad in ((1.0, 0.0, 0), (-2.0, 0.5, 3)):
            a, lda = padded(random, *((k, m) if trans_a else (m, k)), dtype, by_rows, pad)
            b, ldb = padded(random, *((n, k) if trans_b else (k, n)), dtype, by_rows, pad)
            c, ldc = padded(random, m, n, dtype, by_rows, pad)
            before = c.base.copy() if c.base is not None else c.copy()
            product = (a.T if trans_a else a) @ (b.T if trans_b else b)
            expected = alpha * product + beta * c
            if beta == 0:
                c[...] = np.nan  # which must not be read
            call(library, routine, order, a, b, c, trans_a, trans_b, alpha, beta, (lda, ldb, ldc))
            np.testing.assert_allclose(c, expected, tolerance, tolerance)
            if pad and c.size:  # what lies between the lines stays
                lines = c.base if c.base.base is None else c.base.base
                np.testing.assert_array_equal(lines[:, -pad:], before[:, -pad:])


def test_a_source_is_found_and_named():
    library = blas.find_blas()
    assert library.kind in ("ilp64", "lp64")
    assert set(library.addresses) == set(blas.ROUTINES)
    assert blas.blas_kind() in blas.blas_name()


def test_the_environment_chooses_the_source(monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_BLAS", "callback")
    assert blas.blas_name() == "np.matmul (ilp64)"
    assert blas.routine_address("sgemm") == blas.find_blas("callback").addresses["sgemm"]
    assert blas.get_threads() == 1
    assert not blas.set_threads(1)
    monkeypatch.setenv("GRAPHGRAD_BLAS", "mkl")
    with pytest.raises(ValueError, match="numpy, package, system, callback"):
        blas.blas_kind()


def test_a_source_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setattr(blas, "_package_libraries", lambda: iter(["/no/such/library.so"]))
    with pytest.raises(OSError, match="package"):
        blas.find_blas.__wrapped__("package")


def test_without_any_library_callbacks_serve(monkeypatch):
    for name in ("_numpy_libraries", "_package_libraries", "_system_names"):
        monkeypatch.setattr(blas, name, lambda: iter(()))
    assert blas.find_blas.__wrapped__("").name == "np.matmul (ilp64)"


def test_threads_are_set_where_the_library_can(monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_BLAS", "numpy" if "numpy.libs" in repr_of_numpy() else "")
    before = blas.get_threads()
    if not blas.set_threads(1):
        pytest.skip("this BLAS has no such switch")
    try:
        assert blas.get_threads() == 1
    finally:
        blas.set_threads(before)
    assert blas.get_threads() == before


def repr_of_numpy() -> str:
    return " ".join(blas._numpy_libraries())


@pytest.mark.parametrize(
    "files",
    [
        ["libscipy_openblas64_-32a4b2a6.so"],
        ["libscipy_openblas64_.dylib"],
        ["libscipy_openblas-6cdc3b4a.dll"],
        ["libopenblas.so.0.3"],
    ],
)
def test_openblas_is_known_by_its_name(tmp_path, files):
    for name in [*files, "libgfortran-040039e1.so.5.0.0", "openblas.txt"]:
        (tmp_path / name).touch()
    names = [os.path.basename(path) for path in blas._named_openblas(tmp_path)]
    assert names == files
    assert list(blas._named_openblas(tmp_path / "none")) == []
