"""gg.linalg: linear algebra, by TensorFlow's names."""

from graphgrad.public import exported

globals().update(exported("linalg"))
__all__ = sorted(exported("linalg"))
