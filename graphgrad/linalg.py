"""gg.linalg: linear algebra, by TensorFlow's names."""

from graphgrad.creation import eye
from graphgrad.public import exported

globals().update(exported("linalg"))
__all__ = ["eye", *sorted(exported("linalg"))]
