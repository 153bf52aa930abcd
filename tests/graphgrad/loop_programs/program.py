"""What a program of the tables is: a plain function of NumPy, which tensors run as it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Program:
    """A function of arrays, its arguments, and how far it can be differentiated.

    NumPy runs `f` on arrays, and so tells what its values are; graphgrad runs the same source on
    tensors. Floats among the arguments are differentiated, `order` times. With `sizes` no trace
    assumes the sizes of arguments; with `examples` the program is tried under vmap.
    """

    name: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    order: int = 2
    sizes: bool = True
    examples: bool = True
    elements: bool = False  # of arrays are assigned to, which only converted functions may
    rtol: float = 1e-9
    places: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        floats = (k for k, a in enumerate(self.args) if a.dtype.kind == "f")
        object.__setattr__(self, "places", tuple(floats))


def arrays(args: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(np.asarray(a) for a in args.values())


class Table(dict[str, Program]):
    """Programs by name; a call decorates a function with its arguments."""

    def __call__(
        self, order: int = 2, sizes: bool = True, examples: bool = True, elements: bool = False,
        rtol: float = 1e-9, **args: Any,
    ) -> Callable[[Any], Any]:  # fmt: skip
        def add(f: Any) -> Any:
            self[f.__name__] = Program(
                f.__name__, f, arrays(args), order, sizes, examples, elements, rtol
            )
            return f

        return add
