"""gg.signal: Fourier transforms, by TensorFlow's names."""

from graphgrad.public import exported

globals().update(exported("signal"))
__all__ = sorted(exported("signal"))
