"""Every source of BLAS gives NumPy's products, for every layout and transposition."""

import ctypes
import os

import numpy as np
import pytest

from graphgrad.runtime import blas
from graphgrad.runtime.blas_callbacks import COLUMN_MAJOR, NO_TRANSPOSE, ROW_MAJOR, TRANSPOSE

SOURCES = ("numpy", "package", "mkl", "callback")
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
    codes = [TRANSPOSE if t else NO_TRANSPOSE for t in (trans_a, trans_b)]
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
@pytest.mark.parametrize("routine", ["sgemm", "dgemm"])
@pytest.mark.parametrize("source", SOURCES)
def test_products_agree_with_numpy(source, routine, trans_a, trans_b, by_rows):
    library = found(source)
    dtype, tolerance = {"sgemm": (np.float32, 1e-4), "dgemm": (np.float64, 1e-11)}[routine]
    random = np.random.default_rng(1)
    order = ROW_MAJOR if by_rows else COLUMN_MAJOR
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


@pytest.mark.parametrize("by_rows", [True, False], ids=["rows", "columns"])
@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("routine", ["sgemv", "dgemv"])
@pytest.mark.parametrize("source", SOURCES)
def test_products_with_vectors_agree_with_numpy(source, routine, trans, by_rows):
    library = found(source)
    scalar, dtype, tolerance = {
        "sgemv": (ctypes.c_float, np.float32, 1e-4),
        "dgemv": (ctypes.c_double, np.float64, 1e-11),
    }[routine]
    size = {"ilp64": ctypes.c_int64, "lp64": ctypes.c_int32}[library.kind]
    flag, pointer = ctypes.c_int32, ctypes.c_void_p
    vectors = [scalar, pointer, size, pointer, size, scalar, pointer, size]
    function = ctypes.CFUNCTYPE(None, flag, flag, size, size, *vectors)(library.addresses[routine])
    random = np.random.default_rng(2)
    for m, n in [(3, 4), (1, 1), (1, 7), (7, 1), (33, 17), (300, 200)]:
        for alpha, beta, pad in ((1.0, 0.0, 0), (-2.0, 0.5, 3)):
            a, lda = padded(random, m, n, dtype, by_rows, pad)
            x = random.standard_normal((m if trans else n, 1 + pad)).astype(dtype)
            y = random.standard_normal((n if trans else m, 2 + pad)).astype(dtype)
            expected = alpha * (a.T if trans else a) @ x[:, 0] + beta * y[:, 0]
            rest = y[:, 1:].copy()
            if beta == 0:
                y[:, 0] = np.nan  # which must not be read
            function(
                ROW_MAJOR if by_rows else COLUMN_MAJOR, TRANSPOSE if trans else NO_TRANSPOSE, m, n,
                alpha, a.ctypes.data, lda, x.ctypes.data, 1 + pad, beta, y.ctypes.data, 2 + pad,
            )  # fmt: skip
            np.testing.assert_allclose(y[:, 0], expected, tolerance, tolerance)
            np.testing.assert_array_equal(y[:, 1:], rest)


@pytest.mark.parametrize("routine", ["sdot", "ddot"])
@pytest.mark.parametrize("source", SOURCES)
def test_products_of_vectors_agree_with_numpy(source, routine):
    library = found(source)
    scalar, dtype, tolerance = {
        "sdot": (ctypes.c_float, np.float32, 1e-4),
        "ddot": (ctypes.c_double, np.float64, 1e-11),
    }[routine]
    size = {"ilp64": ctypes.c_int64, "lp64": ctypes.c_int32}[library.kind]
    pointer = ctypes.c_void_p
    dot = ctypes.CFUNCTYPE(scalar, size, pointer, size, pointer, size)(library.addresses[routine])
    random = np.random.default_rng(3)
    for n in (0, 1, 7, 1000):
        x, y = (random.standard_normal((n, step)).astype(dtype) for step in (1, 3))
        found_value = dot(n, x.ctypes.data, 1, y.ctypes.data, 3)
        np.testing.assert_allclose(found_value, x[:, 0] @ y[:, 0], tolerance, tolerance)


def test_a_source_is_found_and_named():
    library = blas.find_blas()
    assert library.kind in ("ilp64", "lp64")
    further = {*blas.TRIANGULAR, *blas.LAPACK} if blas.has_lapack() else set()
    assert set(library.addresses) == {*blas.ROUTINES, *further}
    assert blas.blas_kind() in blas.blas_name()


def test_the_environment_chooses_the_source(monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_BLAS", "callback")
    assert blas.blas_name() == "np.matmul (ilp64)"
    assert blas.routine_address("sgemm") == blas.find_blas("callback").addresses["sgemm"]
    assert blas.get_threads() == 1
    before = found("numpy").get_threads()
    assert not blas.set_threads(before)
    monkeypatch.setenv("GRAPHGRAD_BLAS", "blis")
    with pytest.raises(ValueError, match="numpy, package, mkl, system, callback"):
        blas.blas_kind()


def test_a_source_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setattr(blas, "_package_libraries", lambda: iter(["/no/such/library.so"]))
    with pytest.raises(OSError, match="package"):
        blas.find_blas.__wrapped__("package")


def test_without_any_library_callbacks_serve(monkeypatch):
    for name in ("_numpy_libraries", "_package_libraries", "_mkl_libraries", "_system_names"):
        monkeypatch.setattr(blas, name, lambda: iter(()))
    assert blas.find_blas.__wrapped__("").name == "np.matmul (ilp64)"


@pytest.mark.parametrize("source", ["numpy", "package", "mkl"])
def test_threads_are_set_where_the_library_can(source, monkeypatch):
    found(source)
    monkeypatch.setenv("GRAPHGRAD_BLAS", source)
    before = blas.get_threads()
    assert before >= 1
    assert blas.set_threads(1)
    try:
        assert blas.get_threads() == 1
        own = blas._numpys_own()
        assert own is None or own.get_threads() == 1  # products that are not compiled
    finally:
        blas.set_threads(before)
    assert blas.get_threads() == before


MKL_NAMES = {
    "linux": ("lib/libmkl_rt.so.2", "lib/libmkl_rt.so.3"),
    "darwin": ("lib/libmkl_rt.1.dylib", "lib/libmkl_rt.2.dylib"),
    "win32": ("Library/bin/mkl_rt.1.dll", "Library/bin/mkl_rt.2.dll"),
}


@pytest.fixture
def mkl_folder(tmp_path, monkeypatch):
    """A function that installs empty files as MKL is installed on a platform."""
    for name in ("prefix", "base_prefix"):
        monkeypatch.setattr(blas.sys, name, str(tmp_path))
    monkeypatch.setattr(blas.site, "getuserbase", lambda: str(tmp_path / "none"))

    def install(platform):
        monkeypatch.setattr(blas.sys, "platform", platform)
        for name in MKL_NAMES[platform]:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for each in (path, path.with_name("mkl_rt.lib"), path.with_name("libmkl_rtx.so")):
                each.touch()
        return tmp_path

    return install


@pytest.mark.parametrize("platform", MKL_NAMES)
def test_mkl_is_found_where_pip_puts_it(platform, mkl_folder):
    folder = mkl_folder(platform)
    newest_first = [str(folder / name) for name in reversed(MKL_NAMES[platform])]
    assert list(blas._installed_mkl()) == newest_first


@pytest.mark.parametrize(("intel", "first"), [(True, "mkl"), (False, "numpy")])
def test_mkl_comes_first_on_intel_processors_where_it_is_installed(
    intel, first, mkl_folder, monkeypatch
):
    monkeypatch.setattr(blas, "is_intel", lambda: intel)
    assert blas._order()[0] == "numpy"  # it is not installed
    mkl_folder("linux")
    assert blas._order()[0] == first


@pytest.mark.skipif("not os.path.exists('/proc/cpuinfo')", reason="asks Linux")
def test_the_maker_of_the_processor_is_known():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        assert blas.is_intel() == ("GenuineIntel" in file.read())


def test_the_maker_of_the_processor_on_windows(monkeypatch):
    monkeypatch.setattr(blas.sys, "platform", "win32")
    for text, intel in (("Intel64 Family 6, GenuineIntel", True), ("AMD64, AuthenticAMD", False)):
        monkeypatch.setenv("PROCESSOR_IDENTIFIER", text)
        assert blas.is_intel() == intel


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
