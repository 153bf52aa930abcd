"""gg.math: mathematical functions, by TensorFlow's names."""

from graphgrad.public import exported

globals().update(exported("math"))
__all__ = sorted(exported("math"))
