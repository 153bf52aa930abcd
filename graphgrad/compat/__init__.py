"""gg.compat: names of TensorFlow 1."""

from graphgrad.compat import v1

__all__ = ["v1"]
