"""gg.compat.v1: names of TensorFlow 1."""

from graphgrad.compat.v1 import nn, train

__all__ = ["nn", "train"]
