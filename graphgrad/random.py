"""gg.random: draws by Philox4x32-10, the same bits eager and compiled.

A generator keeps (key, counter) in a variable, so that compiled functions advance it too.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from typing import Any

import numpy as np

from graphgrad import tracing
from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import as_dtype
from graphgrad.compiler.errors import DTypeError, TraceError
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.ops import distributions
from graphgrad.compiler.ops import random as draws
from graphgrad.compiler.ops.shapes import as_shape
from graphgrad.compiler.source import here
from graphgrad.configured import Configured
from graphgrad.example_draws import ExampleBuilder, moved
from graphgrad.reads import relied_on
from graphgrad.tensor import Array
from graphgrad.variable import Variable


def _fresh_seed() -> int:
    return int.from_bytes(os.urandom(8), "little", signed=True)


class Generator(Configured):
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
    def from_state(cls, state: Any, alg: Any = None) -> Generator:
        """A generator that goes on where `state`, an int64[2] of key and counter, says."""
        return cls(np.array(state))

    @classmethod
    def from_key_counter(cls, key: int, counter: int, alg: Any = None) -> Generator:
        """A generator of this key, from this counter on."""
        return cls([key, counter])

    @classmethod
    def from_non_deterministic_state(cls, alg: Any = None) -> Generator:
        """A generator with a seed of the operating system's."""
        return cls.from_seed(_fresh_seed())

    @property
    def algorithm(self) -> str:
        """The name of the counter-based generator."""
        return "philox"

    @property
    def key(self) -> Any:
        """What tells its draws from those of others: int64."""
        return self.state.value()[0]

    def reset(self, state: Any) -> None:
        """Go on where `state`, an int64[2] of key and counter, says."""
        self.state.assign(state)

    def reset_from_seed(self, seed: Any) -> None:
        """Start again from `seed`."""
        self.state.assign(draws.key_of_seed(_int64(seed)))

    def reset_from_key_counter(self, key: Any, counter: Any) -> None:
        """Go on with this key, from this counter on."""
        self.state.assign([key, counter])

    def _draw(self, shape: Any, dtype: Any) -> Any:
        """The key for a draw; the counter moves past it."""
        return self.take(draws.drawn_blocks(as_shape(shape), dtype))

    def take(self, blocks: Any) -> Any:
        """The key for draws of so many blocks of 128 bits; the counter moves past them."""
        if isinstance(state.builder, ExampleBuilder):
            return state.builder.take(self, blocks)
        if state.builder is not None and not tracing.may_write():
            raise TraceError(
                "a random draw moves on the state of its generator, which a loop body or a branch "
                "inside gg.vmap cannot do: draw outside, or use gg.random.stateless_normal or "
                "stateless_uniform with a seed for each", here()
            )  # fmt: skip
        key = self.state.value()
        self.state.assign(moved(key, blocks))
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

    def truncated_normal(
        self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32,
        name: str | None = None,
    ) -> Any:  # fmt: skip
        """Normal draws, none further than two standard deviations from the mean."""
        found = as_dtype(dtype)
        return distributions.truncated_normal(self._draw(shape, found), shape, mean, stddev, found)

    def uniform_full_int(
        self, shape: Any, dtype: Any = dtypes.uint64, name: str | None = None
    ) -> Any:
        """Draws from all values of an integer dtype."""
        return _full_int(self._draw(shape, dtypes.uint64), shape, dtype)

    def bernoulli(
        self, shape: Any, p: Any = 0.5, dtype: Any = dtypes.bool_, name: str | None = None
    ) -> Any:
        """True, or 1, with probability `p`, which broadcasts to `shape`."""
        return distributions.bernoulli(self._draw(shape, _draw_dtype(p)), shape, p, dtype)

    def categorical(
        self, logits: Any, num_samples: Any, dtype: Any = dtypes.int64, name: str | None = None
    ) -> Any:
        """Draws from softmax(logits) over the last axis: [batch, num_samples]."""
        x = current_kind().lift(logits)
        key = self._draw((*x.type.shape[:1], num_samples), dtypes.float64)
        return distributions.categorical(key, x, num_samples, dtype)

    def shuffle(self, value: Any, name: str | None = None) -> Any:
        """`value` with its first axis in a random order."""
        x = current_kind().lift(value)
        return distributions.shuffle(self._draw(x.type.shape[:1], dtypes.uint64), x)

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


def _draw_dtype(p: Any) -> Any:
    """The dtype of the uniform draws that are compared with probabilities `p`."""
    return dtypes.float64 if getattr(p, "dtype", None) == dtypes.float64 else dtypes.float32


def _full_int(key: Any, shape: Any, dtype: Any) -> Any:
    found = as_dtype(dtype)
    if not found.is_integer:
        raise DTypeError(f"uniform_full_int: draws integers, not {found.name}", here())
    return ops["random_bits"](key, as_shape(shape), dtypes.uint64).cast(found)


_default = Generator.from_non_deterministic_state()


class _Seeded:
    """The generators behind `seed=`: one a seed, shared by all calls that name it.

    Those of the last thousand seeds are kept, and those that a compiled function draws from.
    """

    KEPT = 1024

    def __init__(self) -> None:
        self.seed = 87654321  # the global one, as long as `set_seed` has not been called
        self.living: weakref.WeakValueDictionary[int, Variable] = weakref.WeakValueDictionary()
        self.recent: OrderedDict[int, Generator] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, seed: int) -> Generator:
        """The generator of `seed`, at the place that its draws have reached."""
        with self.lock:
            found = self.recent.pop(seed, None)
            if found is None:
                state = self.living.get(seed)
                with tracing.outside():
                    found = Generator(self.start(seed))
                if state is not None:
                    found.state = state
                self.living[seed] = found.state
            self.recent[seed] = found
            if len(self.recent) > self.KEPT:
                self.recent.popitem(last=False)
            return found

    def start(self, seed: int) -> Array:
        """The first state for `seed`: it depends on the global seed as well."""
        return np.asarray(draws.key_of_seed(np.array([self.seed, seed], np.int64)))

    def reset(self, seed: int) -> None:
        """Start all from the beginning, under another global seed."""
        with self.lock:
            self.seed = seed
            for own, state in self.living.items():
                with tracing.outside():
                    state.assign(self.start(own))


_seeded = _Seeded()


def get_global_generator() -> Generator:
    """The generator of `gg.random.uniform` and the like, where no seed is given."""
    return _default


def set_global_generator(generator: Generator) -> None:
    """Draw from `generator` where no seed is given."""
    global _default
    _default = generator


def set_seed(seed: int) -> None:
    """Start all draws without a seed, and those with one, from the beginning.

    >>> import graphgrad as gg
    >>> gg.random.set_seed(7)
    >>> a = gg.random.normal((2,))
    >>> gg.random.set_seed(7)
    >>> bool(gg.reduce_all(a == gg.random.normal((2,))))
    True
    """
    _default.reset_from_seed(seed)
    _seeded.reset(int(seed))


def _generator(seed: int | None) -> Generator:
    """Where a call with `seed` draws: each seed has a sequence of its own."""
    if seed is not None:
        return _seeded.get(int(seed))
    relied_on(globals(), "_default", "the global generator")
    return _default


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


def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32,
    seed: int | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """Draws from the normal distribution, none further than two standard deviations from the mean.

    >>> import graphgrad as gg
    >>> bool(gg.reduce_all(gg.abs(gg.random.truncated_normal([100])) <= 2))
    True
    """
    return _generator(seed).truncated_normal(shape, mean, stddev, dtype)


def bernoulli(
    shape: Any, p: Any = 0.5, dtype: Any = dtypes.bool_, seed: int | None = None,
    name: str | None = None,
) -> Any:  # fmt: skip
    """True, or 1 where `dtype` is one of numbers, with probability `p`, which broadcasts to
    `shape`.

    >>> import graphgrad as gg
    >>> gg.random.bernoulli([3], p=[0.0, 1.0, 1.0]).numpy()
    array([False,  True,  True])
    """
    return _generator(seed).bernoulli(shape, p, dtype)


def categorical(
    logits: Any, num_samples: Any, dtype: Any = None, seed: int | None = None,
    name: str | None = None,
) -> Any:  # fmt: skip
    """Draws from the distributions softmax(logits), one a row: integers [batch, num_samples].

    >>> import graphgrad as gg
    >>> gg.random.categorical([[0.0, -float("inf")]], 3).numpy()
    array([[0, 0, 0]])
    """
    return _generator(seed).categorical(logits, num_samples, dtype or dtypes.int64)


def shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Any:
    """`value` with its first axis in a random order; derivatives flow through it.

    >>> import graphgrad as gg
    >>> sorted(gg.random.shuffle([3, 1, 2]).numpy().tolist())
    [1, 2, 3]
    """
    return _generator(seed).shuffle(value)


def stateless_uniform(
    shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = dtypes.float32,
    name: str | None = None, alg: Any = "auto_select",
) -> Any:  # fmt: skip
    """Draws from [minval, maxval) that depend on `seed`, two integers, alone.

    >>> import graphgrad as gg
    >>> gg.random.stateless_uniform((2,), seed=[1, 2], maxval=10, dtype=gg.int32).dtype
    gg.int32
    """
    return draws.uniform(draws.key_of_seed(_int64(seed)), shape, minval, maxval, as_dtype(dtype))


def stateless_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32,
    name: str | None = None, alg: Any = "auto_select",
) -> Any:  # fmt: skip
    """Draws from the normal distribution that depend on `seed`, two integers, alone.

    >>> import graphgrad as gg
    >>> gg.random.stateless_normal((2,), seed=[1, 2]).shape
    TensorShape([2])
    """
    return draws.normal(draws.key_of_seed(_int64(seed)), shape, mean, stddev, as_dtype(dtype))


def stateless_truncated_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32,
    name: str | None = None, alg: Any = "auto_select",
) -> Any:  # fmt: skip
    """Normal draws within two standard deviations that depend on `seed`, two integers, alone.

    >>> import graphgrad as gg
    >>> gg.random.stateless_truncated_normal((2,), seed=[1, 2]).shape
    TensorShape([2])
    """
    key = draws.key_of_seed(_int64(seed))
    return distributions.truncated_normal(key, shape, mean, stddev, as_dtype(dtype))


def stateless_bernoulli(
    shape: Any, seed: Any, p: Any = 0.5, dtype: Any = dtypes.bool_, name: str | None = None
) -> Any:
    """True, or 1, with probability `p`; depends on `seed`, two integers, alone.

    >>> import graphgrad as gg
    >>> gg.random.stateless_bernoulli((2,), seed=[1, 2], p=1.0, dtype=gg.int32).numpy()
    array([1, 1], dtype=int32)
    """
    return distributions.bernoulli(draws.key_of_seed(_int64(seed)), shape, p, dtype)


def stateless_categorical(
    logits: Any, num_samples: Any, seed: Any, dtype: Any = dtypes.int64, name: str | None = None
) -> Any:
    """Draws from softmax(logits), [batch, num_samples], that depend on `seed` and logits alone.

    >>> import graphgrad as gg
    >>> gg.random.stateless_categorical([[0.0, -float("inf")]], 2, seed=[1, 2]).numpy()
    array([[0, 0]])
    """
    return distributions.categorical(draws.key_of_seed(_int64(seed)), logits, num_samples, dtype)


def stateless_shuffle(value: Any, seed: Any, name: str | None = None) -> Any:
    """`value` with its first axis in an order that depends on `seed`, two integers, alone.

    >>> import graphgrad as gg
    >>> sorted(gg.random.stateless_shuffle([3, 1, 2], seed=[1, 2]).numpy().tolist())
    [1, 2, 3]
    """
    return distributions.shuffle(draws.key_of_seed(_int64(seed)), value)


def split(seed: Any, num: int = 2, alg: Any = "auto_select") -> Any:
    """`num` new seeds made from one: int64[num, 2].

    >>> import graphgrad as gg
    >>> gg.random.split([1, 2]).shape
    TensorShape([2, 2])
    """
    return draws.new_keys(current_kind().lift(_int64(seed)), num)


def fold_in(seed: Any, data: Any, alg: Any = "auto_select") -> Any:
    """The seed made from `seed` and an integer.

    >>> import graphgrad as gg
    >>> gg.random.fold_in([1, 2], 3).shape
    TensorShape([2])
    """
    return draws.fold_in(current_kind().lift(_int64(seed)), data)


stateless_split, stateless_fold_in = split, fold_in

__all__ = [
    "Generator", "bernoulli", "categorical", "fold_in", "get_global_generator", "normal",
    "set_global_generator", "set_seed", "shuffle", "split", "stateless_bernoulli",
    "stateless_categorical", "stateless_fold_in", "stateless_normal", "stateless_shuffle",
    "stateless_split", "stateless_truncated_normal", "stateless_uniform", "truncated_normal",
    "uniform",
]  # fmt: skip
