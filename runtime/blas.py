"""CBLAS routines as plain addresses, so that compiled code calls them through its table.

NumPy's own OpenBLAS comes first: it is loaded already and its threads exist. Where NumPy hides
its BLAS, the scipy-openblas packages or the platform's library serve; where there is none at
all, callbacks give the same interface on top of `np.matmul`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROUTINES = ("sgemm", "dgemm")
SOURCES = ("numpy", "package", "system", "callback")  # in the order in which they are tried

ROW_MAJOR, COLUMN_MAJOR = 101, 102
NO_TRANSPOSE, TRANSPOSE, CONJUGATE_TRANSPOSE = 111, 112, 113

# Symbol patterns and the width of their integers; OpenBLAS builds prefix and suffix their names.
_PATTERNS = (
    ("scipy_", "64_", "ilp64"),
    ("", "64_", "ilp64"),
    ("scipy_", "", "lp64"),
    ("", "", "lp64"),
)
_SCALAR = {"sgemm": (ctypes.c_float, np.float32), "dgemm": (ctypes.c_double, np.float64)}


@dataclass(frozen=True, slots=True)
class Blas:
    """Where the routines are, and how they are called."""

    name: str
    kind: str  # "ilp64" or "lp64": the width of their integers
    addresses: dict[str, int]
    get_threads: Callable[[], int] | None = None
    set_threads: Callable[[int], None] | None = None


def routine_address(name: str) -> int:
    """The address of CBLAS routine `name`: "sgemm" or "dgemm"."""
    return _blas().addresses[name]


def blas_kind() -> str:
    """Whether the routines take 64-bit ("ilp64") or 32-bit ("lp64") integers."""
    return _blas().kind


def blas_name() -> str:
    """What serves the routines, for reports."""
    return _blas().name


def get_threads() -> int:
    """How many threads a product may use; 1 where the library does not say."""
    getter = _blas().get_threads
    return getter() if getter else 1


def set_threads(count: int) -> bool:
    """Set the number of threads of a product; False where the library has no such switch."""
    setter = _blas().set_threads
    if setter:
        setter(count)
    return setter is not None


def thread_switch() -> tuple[int, int] | None:
    """The addresses of the C functions that get and set the number of threads, if there are any."""
    found = _blas()
    if found.get_threads is None or found.set_threads is None:
        return None
    get, set_ = (ctypes.cast(f, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
                 for f in (found.get_threads, found.set_threads))  # fmt: skip
    return get, set_


def _blas() -> Blas:
    return find_blas(os.environ.get("GRAPHGRAD_BLAS", ""))


@functools.cache
def find_blas(source: str = "") -> Blas:
    """The first library that has the routines, or the one that `source` of SOURCES names.

    GRAPHGRAD_NUM_THREADS, where it is set, is its number of threads too.
    """
    if source and source not in SOURCES:
        raise ValueError(f"GRAPHGRAD_BLAS is {source!r}; it may be one of {', '.join(SOURCES)}")
    libraries = {"numpy": _numpy_libraries, "package": _package_libraries, "system": _system_names}
    for kind, candidates in libraries.items():
        if source in ("", kind):
            for path in candidates():
                found = _open(path)
                if found is not None:
                    number = os.environ.get("GRAPHGRAD_NUM_THREADS", "")
                    if found.set_threads is not None and number.isdecimal() and int(number):
                        found.set_threads(int(number))
                    return found
    if source in ("", "callback"):
        return _callbacks()
    raise OSError(f"GRAPHGRAD_BLAS is {source!r}, but no such BLAS was found")


def _numpy_libraries() -> Iterator[str]:
    """What wheels of NumPy bring along: beside the package, or within it on macOS."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs", package / ".libs"):
        yield from _named_openblas(folder)


def _package_libraries() -> Iterator[str]:
    for name in ("scipy_openblas64", "scipy_openblas32"):
        spec = importlib.util.find_spec(name)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield from _named_openblas(Path(folder) / "lib")


def _system_names() -> Iterator[str]:
    """What conda and the systems' own packages install."""
    if sys.platform == "darwin":
        yield "/System/Library/Frameworks/Accelerate.framework/Accelerate"
    elif sys.platform == "win32":
        yield from _named_openblas(Path(sys.prefix) / "Library" / "bin")
    else:
        yield from _named_openblas(Path(sys.prefix) / "lib")
        yield from ("libopenblas.so.0", "libcblas.so.3")


def _named_openblas(folder: Path) -> Iterator[str]:
    """Shared libraries in `folder` that are OpenBLAS by name; their names carry hashes."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if "openblas" in path.name and path.name.split(".", 1)[-1].startswith(
                ("so", "dylib", "dll")
            ):
                yield str(path)


def _open(path: str) -> Blas | None:
    """The routines of the shared library at `path`, or None if it cannot serve them."""
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    for prefix, suffix, kind in _PATTERNS:
        routines = [getattr(library, f"{prefix}cblas_{r}{suffix}", None) for r in ROUTINES]
        if None in routines:
            continue
        cast = [ctypes.cast(r, ctypes.c_void_p).value for r in routines]  # type: ignore[arg-type]
        getter = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
        setter = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
        if getter and setter:
            setter.restype = None
        else:
            getter = setter = None
        addresses = {r: a for r, a in zip(ROUTINES, cast) if a}
        return Blas(f"{Path(path).name} ({kind})", kind, addresses, getter, setter)
    return None


def _callbacks() -> Blas:
    addresses = {}
    for name in ROUTINES:
        function = _callback(*_SCALAR[name])
        # For good: tables hold the address alone.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(function))
        addresses[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
    return Blas("np.matmul (ilp64)", "ilp64", addresses)


def _callback(scalar: Any, dtype: Any) -> Any:
    """CBLAS's gemm with 64-bit integers, C = alpha op(A) op(B) + beta C, as a C function."""

    def matrix(pointer: int, rows: int, columns: int, stride: int, by_rows: bool) -> Any:
        """The matrix at `pointer`, whose rows (or columns) begin `stride` elements apart."""
        lines, length = (rows, columns) if by_rows else (columns, rows)
        count = (lines - 1) * stride + length if lines and length else 0
        data = (scalar * count).from_address(pointer) if count else (scalar * 0)()
        flat = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
        steps = (stride * flat.itemsize, flat.itemsize)
        lined = np.lib.stride_tricks.as_strided(flat, (lines, length), steps)
        return lined if by_rows else lined.T

    def gemm(
        order: int, trans_a: int, trans_b: int, m: int, n: int, k: int, alpha: float, a: int,
        lda: int, b: int, ldb: int, beta: float, c: int, ldc: int,
    ) -> None:  # fmt: skip
        rows = order == ROW_MAJOR
        plain_a, plain_b = trans_a == NO_TRANSPOSE, trans_b == NO_TRANSPOSE
        x = matrix(a, *((m, k) if plain_a else (k, m)), lda, rows)
        y = matrix(b, *((k, n) if plain_b else (n, k)), ldb, rows)
        z = matrix(c, m, n, ldc, rows)
        product = np.matmul(x if plain_a else x.T, y if plain_b else y.T)
        if alpha != 1:
            product *= dtype(alpha)
        if beta != 0:  # BLAS does not read C when beta is 0: it may hold NaN
            product += dtype(beta) * z
        z[...] = product

    flag, size, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    matrices = (scalar, pointer, size, pointer, size, scalar, pointer, size)
    return ctypes.CFUNCTYPE(None, flag, flag, flag, size, size, size, *matrices)(gemm)
