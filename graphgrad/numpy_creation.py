"""NumPy's functions that make arrays, for tensors: `np.zeros(3, like=x)`, `np.full_like(x, 2.0)`.

`numpy_protocol` finds them under "numpy." and their names. Dtypes are NumPy's: `float` is float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad import creation
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.op import current_kind


def _dtype(given: Any) -> Any:
    return creation.as_dtype(np.dtype(given) if isinstance(given, type) else given)


def full(
    shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", device: Any = None
) -> Any:
    value = fill_value if isinstance(fill_value, Arith) else np.asarray(fill_value)
    tensor = current_kind().lift(value)
    tensor = tensor if dtype is None else tensor.cast(_dtype(dtype))
    return tensor.broadcast_to(creation.as_shape(shape))


def zeros(shape: Any, dtype: Any = float, order: str = "C", device: Any = None) -> Any:
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = None, order: str = "C", device: Any = None) -> Any:
    return full(shape, 1, float if dtype is None else dtype)


def full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    x = current_kind().lift(a)
    return full(x.shape if shape is None else shape, fill_value, dtype or x.dtype)


def zeros_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    return full_like(a, 0, dtype, shape)


def ones_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    return full_like(a, 1, dtype, shape)


FUNCTIONS = {
    "zeros": zeros, "empty": zeros, "ones": ones, "full": full, "zeros_like": zeros_like,
    "empty_like": zeros_like, "ones_like": ones_like, "full_like": full_like,
}  # fmt: skip
