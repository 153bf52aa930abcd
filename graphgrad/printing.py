"""gg.print: prints when a compiled function runs, not when it is traced, as TensorFlow formats."""

from __future__ import annotations

import builtins
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.callbacks import insert
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.source import here
from graphgrad.tensor import Array

Write = Callable[[str], Any]


def print(
    *inputs: Any, output_stream: Any = None, summarize: int = 3, sep: str = " ",
    end: str = "\n", name: str | None = None,
) -> None:  # fmt: skip
    """Print values, inside `gg.function` each time that it runs, in program order.

    Tensors may stand in structures. Of each axis the first and last `summarize` entries are shown,
    all if it is -1. `output_stream` is a stream (standard error unless given), a function of the
    text (`logging.info`), or "file:///path" to append to a file.

    >>> import sys
    >>> import graphgrad as gg
    >>> gg.print("x:", gg.range(10) / 4, {"n": gg.constant(3)}, output_stream=sys.stdout)
    x: [0 0.25 0.5 ... 1.75 2 2.25] {'n': 3}
    """
    if summarize < -1 or summarize == 0:
        raise ArgumentError(f"print: summarize is a positive number or -1, got {summarize}", here())
    write = writer(output_stream)
    leaves = [x for x in nest.flatten(inputs) if is_value(x)]

    def show(*arrays: Array) -> tuple[()]:
        texts = iter([tensor_text(a, summarize) for a in arrays])
        shown = [x if isinstance(x, str) else structure_text(x, texts) for x in inputs]
        write(sep.join(shown) + end)
        return ()

    if state.builder is None:
        show(*(np.asarray(x) for x in leaves))
    else:
        insert(show, "print", [current_kind().lift(x) for x in leaves])


def is_value(x: object) -> bool:
    """Is `x` printed as a tensor is?"""
    return isinstance(x, Arith | np.ndarray | np.generic) or hasattr(x, "__graphgrad_value__")


def writer(stream: Any) -> Write:
    """What writes text to `stream`. The standard streams are looked up when something is written:
    notebooks and tests replace them."""
    if isinstance(stream, str):
        path = stream.removeprefix("file://")
        if path == stream:
            raise ArgumentError(
                f'print: a stream is an object with `write`, a function, or "file:///path", got '
                f"{stream!r}", here()
            )  # fmt: skip
        return lambda text: append(path, text)
    if stream is None or stream in (sys.stderr, sys.__stderr__):
        return lambda text: builtins.print(text, end="", file=sys.stderr, flush=True)
    if stream in (sys.stdout, sys.__stdout__):
        return lambda text: builtins.print(text, end="", file=sys.stdout, flush=True)
    if hasattr(stream, "write"):
        return lambda text: builtins.print(
            text, end="", file=stream, flush=hasattr(stream, "flush")
        )
    if callable(stream):
        return lambda text: stream(text.removesuffix("\n"))
    raise ArgumentError(f"print: {stream!r} is no stream: it has no `write`", here())


def append(path: str, text: str) -> None:
    """Add `text` to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def structure_text(x: Any, texts: Iterator[str]) -> str:
    """A structure as Python shows it; `texts` gives the text of each tensor, in order."""
    if is_value(x):
        return next(texts)
    if isinstance(x, dict):
        items = [f"{k!r}: {structure_text(v, texts)}" for k, v in nest.ordered_items(x)]
        return "{" + ", ".join(items) + "}"
    if hasattr(x, "_fields") or (dataclasses.is_dataclass(x) and nest.is_nest(x)):
        parts = [f"{key[1:]}={structure_text(v, texts)}" for key, v in nest.children(x)]
        return f"{type(x).__name__}({', '.join(parts)})"
    if isinstance(x, list | tuple):
        inner = ", ".join([structure_text(v, texts) for v in x])
        if isinstance(x, list):
            return f"[{inner}]"
        return f"({inner},)" if len(x) == 1 else f"({inner})"
    return repr(x)


def tensor_text(array: Array, summarize: int) -> str:
    """The elements of an array, of each axis the first and last `summarize`."""
    if array.ndim == 0:
        return number_text(array[()])
    count = len(array)
    texts: list[str]
    if summarize < 0 or count <= 2 * summarize:
        texts = [tensor_text(array[i], summarize) for i in range(count)]
    else:
        ends = [*range(summarize), *range(count - summarize, count)]
        texts = [tensor_text(array[i], summarize) for i in ends]
        texts.insert(summarize, "...")
    inner = array.ndim - 1
    between = "\n" * inner or " "
    lines = [text.replace("\n", "\n ") for text in texts]
    joined = (between + " " if inner else between).join(lines)
    return "[" + "\n".join(line.rstrip() for line in joined.split("\n")) + "]"


def number_text(x: Any) -> str:
    """A number in the fewest digits of two precisions that read back as itself; true is 1."""
    if x.dtype.kind == "b":
        return str(int(x))
    if x.dtype.kind in "iu":
        return str(x)
    if x.dtype.kind == "c":
        return str(x)
    if x.dtype.kind not in "fV":  # "V": bfloat16
        return repr(x)
    wide = x.dtype.itemsize == 8
    short, full = (15, 17) if wide else (6, 9)
    value = float(x)
    text = f"{value:.{short}g}"
    same = float(text) == value if wide else np.float32(text) == np.float32(value)
    return text if same or value != value else f"{value:.{full}g}"
