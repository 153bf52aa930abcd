"""gg.compat.v1: names of TensorFlow 1."""

from graphgrad.compat.v1 import train

__all__ = ["train"]
