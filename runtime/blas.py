"""CBLAS routines as plain addresses, so that compiled code calls them through its table; those of
LAPACK as well, where the same library has them.

On Intel's CPUs MKL comes first, where it is installed. Else NumPy's own OpenBLAS does: it is
loaded already and its threads exist. Where NumPy hides its BLAS, the scipy-openblas packages, MKL
or the platform's library serve; where there is none at all, callbacks give the same interface on
top of `np.matmul`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
import os
import re
import site
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphgrad.runtime.blas_callbacks import callback

ROUTINES = ("sgemm", "dgemm", "sgemv", "dgemv", "sdot", "ddot")
# All of them or none: triangular systems of CBLAS, and of LAPACK, which is Fortran, systems and
# factorisations.
TRIANGULAR = ("strsm", "dtrsm")
LAPACK = ("dpotrf", "dgetrf", "dgesv", "dsyevd")
SOURCES = ("numpy", "package", "mkl", "system", "callback")

# Symbol patterns and the width of their integers: builds of OpenBLAS prefix and suffix their names,
# and MKL has both widths in one library.
_PATTERNS = (
    ("scipy_", "64_", "ilp64"),
    ("", "64_", "ilp64"),
    ("", "_64", "ilp64"),
    ("scipy_", "", "lp64"),
    ("", "", "lp64"),
)
_THREAD_SWITCHES = (
    ("{0}openblas_get_num_threads{1}", "{0}openblas_set_num_threads{1}"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)
_MKL_NAME = re.compile(r"libmkl_rt\.so(\.\d+)?|libmkl_rt(\.\d+)?\.dylib|mkl_rt(\.\d+)?\.dll")


@dataclass(frozen=True, slots=True)
class Blas:
    """Where the routines are, and how they are called."""

    name: str
    kind: str  # "ilp64" or "lp64": the width of their integers
    addresses: dict[str, int]
    get_threads: Callable[[], int] | None = None
    set_threads: Callable[[int], None] | None = None


def routine_address(name: str) -> int:
    """The address of a routine: of ROUTINES, or of TRIANGULAR and LAPACK where they are there."""
    return _blas().addresses[name]


def blas_kind() -> str:
    """Whether the routines take 64-bit ("ilp64") or 32-bit ("lp64") integers."""
    return _blas().kind


def has_lapack() -> bool:
    """Are the routines of TRIANGULAR and LAPACK there?"""
    return LAPACK[0] in _blas().addresses


def blas_name() -> str:
    """What serves the routines, for reports."""
    return _blas().name


def get_threads() -> int:
    """How many threads a product may use; 1 where the library does not say."""
    getter = _blas().get_threads
    return getter() if getter else 1


def set_threads(count: int) -> bool:
    """Set the number of threads of a product; False where the library has no such switch.

    NumPy's own library is set too: it computes what is not compiled.
    """
    for library in (_blas(), _numpys_own()):
        if library and library.set_threads:
            library.set_threads(count)
    return _blas().set_threads is not None


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
    libraries = {
        "numpy": _numpy_libraries, "package": _package_libraries, "mkl": _mkl_libraries,
        "system": _system_names,
    }  # fmt: skip
    for kind in (source,) if source else _order():
        for path in libraries[kind]() if kind in libraries else ():
            found = _open(path)
            if found is not None:
                number = os.environ.get("GRAPHGRAD_NUM_THREADS", "")
                if found.set_threads is not None and number.isdecimal() and int(number):
                    found.set_threads(int(number))
                return found
    if source in ("", "callback"):
        return Blas("np.matmul (ilp64)", "ilp64", {r: callback(r) for r in ROUTINES})
    raise OSError(f"GRAPHGRAD_BLAS is {source!r}, but no such BLAS was found")


def _numpys_own() -> Blas | None:
    try:
        return find_blas("numpy")
    except OSError:  # hidden
        return None


def _order() -> tuple[str, ...]:
    """The sources in the order in which they are tried: MKL is the fastest on Intel's CPUs only."""
    if is_intel() and any(True for _ in _installed_mkl()):
        return ("mkl", *SOURCES)
    return SOURCES


def is_intel() -> bool:
    """Is the processor Intel's? False where the system does not say."""
    if sys.platform == "win32":
        return "GenuineIntel" in os.environ.get("PROCESSOR_IDENTIFIER", "")
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return any("GenuineIntel" in line for line in itertools.islice(file, 4))
    except OSError:
        return False


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


def _mkl_libraries() -> Iterator[str]:
    yield from _installed_mkl()
    if sys.platform == "win32":
        yield from ("mkl_rt.3.dll", "mkl_rt.2.dll")
    else:  # where oneAPI or a system's package put it on the loader's path
        yield from ("libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so")


def _installed_mkl() -> Iterator[str]:
    """MKL's single library as pip and conda install it: beside this Python, or for this user."""
    inner = ("Library", "bin") if sys.platform == "win32" else ("lib",)
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix, site.getuserbase())):
        folder = Path(prefix, *inner)
        if folder.is_dir():
            found = [p for p in folder.iterdir() if _MKL_NAME.fullmatch(p.name)]
            yield from map(str, sorted(found, reverse=True))  # the newest first


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
        getter, setter = _thread_switch(library, prefix, suffix)
        addresses = {r: a for r, a in zip(ROUTINES, cast) if a}
        addresses |= _lapack(library, prefix, suffix, kind)
        return Blas(f"{Path(path).name} ({kind})", kind, addresses, getter, setter)
    return None


def _lapack(library: ctypes.CDLL, prefix: str, suffix: str, kind: str) -> dict[str, int]:
    """The routines of TRIANGULAR and LAPACK, if the library has all."""
    ending = "64_" if kind == "ilp64" else ""
    names = {r: f"{prefix}cblas_{r}{suffix}" for r in TRIANGULAR}
    names |= {r: f"{prefix}{r}_{ending}" for r in LAPACK}
    found = {r: getattr(library, name, None) for r, name in names.items()}
    if None in found.values():
        return {}
    return {r: ctypes.cast(f, ctypes.c_void_p).value or 0 for r, f in found.items()}  # type: ignore[arg-type]


def _thread_switch(library: ctypes.CDLL, prefix: str, suffix: str) -> tuple[Any, Any]:
    """The library's functions that get and set its number of threads, or None twice."""
    for get, set_ in _THREAD_SWITCHES:
        getter, setter = (getattr(library, n.format(prefix, suffix), None) for n in (get, set_))
        if getter and setter:
            setter.restype = None
            return getter, setter
    return None, None
