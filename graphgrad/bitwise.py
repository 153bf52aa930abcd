"""gg.bitwise: the bits of integers, by TensorFlow's names."""

from graphgrad.public import exported

globals().update(exported("bitwise"))
__all__ = sorted(exported("bitwise"))
