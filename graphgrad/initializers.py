"""First values of variables, as functions of shape and dtype, by TensorFlow's names."""

from __future__ import annotations

from typing import Any

from graphgrad import random
from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import as_dtype
from graphgrad.creation import constant, fill, ones, zeros


class _Initializer:
    """A function of (shape, dtype) whose options are its attributes."""

    def get_config(self) -> dict[str, Any]:
        """The options, for `from_config`."""
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The initializer of these options."""
        return cls(**config)

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({options})"


class zeros_initializer(_Initializer):  # TensorFlow's name
    """All zeros.

    >>> import graphgrad as gg
    >>> gg.zeros_initializer()([2]).numpy()
    array([0., 0.], dtype=float32)
    """

    def __call__(self, shape: Any, dtype: Any = dtypes.float32, **kwargs: Any) -> Any:
        return zeros(shape, dtype)


class ones_initializer(_Initializer):
    """All ones.

    >>> import graphgrad as gg
    >>> gg.ones_initializer()([2]).numpy()
    array([1., 1.], dtype=float32)
    """

    def __call__(self, shape: Any, dtype: Any = dtypes.float32, **kwargs: Any) -> Any:
        return ones(shape, dtype)


class constant_initializer(_Initializer):
    """One value everywhere, or the given array in the shape that is asked for.

    >>> import graphgrad as gg
    >>> gg.constant_initializer(3)([2]).numpy()
    array([3., 3.], dtype=float32)
    """

    def __init__(self, value: Any = 0) -> None:
        self.value = value

    def __call__(self, shape: Any, dtype: Any = dtypes.float32, **kwargs: Any) -> Any:
        value = constant(self.value, as_dtype(dtype))
        return fill(shape, value) if value.ndim == 0 else value.reshape(shape)


class random_normal_initializer(_Initializer):
    """Draws from the normal distribution.

    >>> import graphgrad as gg
    >>> gg.random_normal_initializer(stddev=0.1, seed=1)([2]).shape
    TensorShape([2])
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def __call__(self, shape: Any, dtype: Any = dtypes.float32, **kwargs: Any) -> Any:
        return random.normal(shape, self.mean, self.stddev, dtype, self.seed)


class random_uniform_initializer(_Initializer):
    """Draws from [minval, maxval).

    >>> import graphgrad as gg
    >>> gg.random_uniform_initializer(0.0, 1.0)([2]).shape
    TensorShape([2])
    """

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        self.minval, self.maxval, self.seed = minval, maxval, seed

    def __call__(self, shape: Any, dtype: Any = dtypes.float32, **kwargs: Any) -> Any:
        return random.uniform(shape, self.minval, self.maxval, dtype, self.seed)
