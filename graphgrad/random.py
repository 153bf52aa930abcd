"""gg.random: draws by Philox4x32-10, the same bits eager and compiled.

A generator keeps (key, counter) in a variable, so that compiled functions advance it too.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from graphgrad import tracing
from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import as_dtype
from graphgrad.compiler.errors import TraceError
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.ops import random as draws
from graphgrad.compiler.ops.join import stack
from graphgrad.compiler.ops.shapes import as_shape
from graphgrad.compiler.source import here
from graphgrad.variable import Variable


def _fresh_seed() -> int:
    return int.from_bytes(os.urandom(8), "little", signed=True)


class Generator:
    """A source of random numbers with a state of its own.

    >>> import graphgrad as gg
    >>> a, b = gg.random.Generator.from_seed(1), gg.random.Generator.from_seed(1)
    >>> bool(gg.reduce_all(a.normal((3,)) == b.normal((3,))))
    True
    """

    def __init__(self, state: Any) -> None:
        self.state = Variable(np.asarray(state, np.int64), trainable=False, name="generator")

    @classmethod
    def from_seed(cls, seed: Any, alg: Any = None) -> Generator:
        """A generator that is the same for equal seeds."""
        return cls(draws.key_of_seed(_int64(seed)).numpy())

    @classmethod
    def from_non_deterministic_state(cls, alg: Any = None) -> Generator:
        """A generator with a seed of the operating system's."""
        return cls.from_seed(_fresh_seed())

    def reset_from_seed(self, seed: Any) -> None:
        """Start again from `seed`."""
        self.state.assign(draws.key_of_seed(_int64(seed)))

    def _draw(self, shape: Any, dtype: Any) -> Any:
        """The key for a draw; the counter moves past it."""
        if state.builder is not None and not tracing.may_write():
            raise TraceError(
                "a random draw moves on the state of its generator, which gg.vmap or a loop body "
                "cannot do: draw outside, or use gg.random.stateless_normal or stateless_uniform "
                "with a seed for each", here()
            )  # fmt: skip
        key = self.state.value()
        used = draws.drawn_blocks(as_shape(shape), dtype)
        kind = current_kind()
        self.state.assign(key + stack([kind.lift(0, dtypes.int64), kind.lift(used, dtypes.int64)]))
        return key

    def skip(self, delta: int) -> None:
        """Move the counter by `delta` blocks of 128 bits."""
        self.state.assign_add([0, delta])

    def uniform(
        self, shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = dtypes.float32,
        name: str | None = None,
    ) -> Any:  # fmt: skip
        """Draws from [minval, maxval); integer dtypes need maxval."""
        found = as_dtype(dtype)
        return draws.uniform(self._draw(shape, found), shape, minval, maxval, found)

    def normal(
        self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32,
        name: str | None = None,
    ) -> Any:  # fmt: skip
        """Draws from the normal distribution."""
        found = as_dtype(dtype)
        return draws.normal(self._draw(shape, found), shape, mean, stddev, found)

    def make_seeds(self, count: int = 1) -> Any:
        """Seeds for stateless functions: int64[2, count]."""
        return draws.new_keys(self._draw((2 * count,), dtypes.uint64), count).transpose((1, 0))

    def split(self, count: int = 1) -> list[Generator]:
        """New generators that are independent of this one and of each other."""
        return [
            Generator(key)
            for key in draws.new_keys(self._draw((2 * count,), dtypes.uint64), count).numpy()
        ]


def _int64(seed: Any) -> Any:
    return np.array(seed, np.int64) if isinstance(seed, int | list | tuple) else seed


_default = Generator.from_non_deterministic_state()


def get_global_generator() -> Generator:
    """The generator of `gg.random.uniform` and `gg.random.normal`."""
    return _default


def set_seed(seed: int) -> None:
    """Start the global generator from `seed`.

    >>> import graphgrad as gg
    >>> gg.random.set_seed(7)
    >>> a = gg.random.normal((2,))
    >>> gg.random.set_seed(7)
    >>> bool(gg.reduce_all(a == gg.random.normal((2,))))
    True
    """
    _default.reset_from_seed(seed)


def _generator(seed: int | None) -> Generator:
    return _default if seed is None else Generator.from_seed(seed)


def uniform(
    shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = dtypes.float32,
    seed: int | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """Draws from [minval, maxval); integer dtypes need maxval.

    >>> import graphgrad as gg
    >>> gg.random.uniform((2, 3)).shape
    TensorShape([2, 3])
    """
    return _generator(seed).uniform(shape, minval, maxval, dtype)


def normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32,
    seed: int | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """Draws from the normal distribution.

    >>> import graphgrad as gg
    >>> gg.random.normal((2, 3)).shape
    TensorShape([2, 3])
    """
    return _generator(seed).normal(shape, mean, stddev, dtype)


def stateless_uniform(
    shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Any:  # fmt: skip
    """Draws from [minval, maxval) that depend on `seed`, two integers, alone.

    >>> import graphgrad as gg
    >>> gg.random.stateless_uniform((2,), seed=[1, 2], maxval=10, dtype=gg.int32).dtype
    gg.int32
    """
    return draws.uniform(draws.key_of_seed(_int64(seed)), shape, minval, maxval, as_dtype(dtype))


def stateless_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Any:  # fmt: skip
    """Draws from the normal distribution that depend on `seed`, two integers, alone.

    >>> import graphgrad as gg
    >>> gg.random.stateless_normal((2,), seed=[1, 2]).shape
    TensorShape([2])
    """
    return draws.normal(draws.key_of_seed(_int64(seed)), shape, mean, stddev, as_dtype(dtype))


def split(seed: Any, num: int = 2) -> Any:
    """`num` new seeds made from one: int64[num, 2].

    >>> import graphgrad as gg
    >>> gg.random.split([1, 2]).shape
    TensorShape([2, 2])
    """
    return draws.new_keys(current_kind().lift(_int64(seed)), num)


def fold_in(seed: Any, data: Any) -> Any:
    """The seed made from `seed` and an integer.

    >>> import graphgrad as gg
    >>> gg.random.fold_in([1, 2], 3).shape
    TensorShape([2])
    """
    return draws.fold_in(current_kind().lift(_int64(seed)), data)


stateless_split, stateless_fold_in = split, fold_in

__all__ = [
    "Generator", "fold_in", "get_global_generator", "normal", "set_seed", "split",
    "stateless_fold_in", "stateless_normal", "stateless_split", "stateless_uniform", "uniform",
]  # fmt: skip
