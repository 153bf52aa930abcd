"""Methods under `gg.function`: the function of an instance does not keep the instance alive."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from typing import Any


class WeakMethod:
    """A method whose instance is held weakly."""

    def __init__(self, function: Any, instance: Any) -> None:
        functools.update_wrapper(self, function)
        del self.__dict__["__wrapped__"]  # it has one parameter more
        self.__signature__ = inspect.signature(types.MethodType(function, instance()))
        self.function = function
        self.instance = instance

    @property
    def __func__(self) -> Any:
        return self.function

    @property
    def __self__(self) -> Any:
        return self.instance()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self.instance(), *args, **kwargs)

    def __deepcopy__(self, memo: Any) -> Any:
        return types.MethodType(self.function, copy.deepcopy(self.instance(), memo))

    def __reduce__(self) -> Any:
        return types.MethodType, (self.function, self.instance())
