"""gg.dtypes: element types, by TensorFlow's names."""

from graphgrad.compiler import dtypes as _dtypes
from graphgrad.compiler.dtypes import DType, as_dtype
from graphgrad.public import exported

globals().update({d.name: d for d in _dtypes.ALL})
globals().update({"cast": exported("")["cast"]} | exported("dtypes"))
__all__ = ["DType", "as_dtype", "cast", *(d.name for d in _dtypes.ALL), *exported("dtypes")]  # noqa: F822
