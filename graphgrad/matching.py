"""Generated code on the path of every call: does a call fit a trace, and what does it return?

Both are straight-line Python, made once a trace: a check of each argument that ends with the list
of arrays to run on, and an expression that builds the result.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler import dims
from graphgrad.compiler.dims import Dim, DimScope, Extent, Guard, Symbol
from graphgrad.eager import array_of
from graphgrad.signature import Arguments, Identity, MethodIdentity, is_tensor_leaf, leaf_key
from graphgrad.tensor import Array, EagerTensor

Matcher = Callable[[tuple[Any, ...]], list[Any] | None]


class SizeGuards:
    """Do the sizes of a call give the answers that the trace relied on? Remembers recent ones.

    Compiling may ask more questions of the scope than tracing did, so its guards are read live.
    """

    def __init__(self, scope: DimScope) -> None:
        self.scope = scope
        self.symbols: list[Symbol] = [s for s in scope.symbols if s.argument >= 0]
        self._good: set[tuple[int, ...]] = set()
        self._asked = 0

    @property
    def guards(self) -> list[Guard]:
        return list(self.scope.guards.values())

    def hold(self, sizes: tuple[int, ...]) -> bool:
        """Do the guards hold for the symbols' sizes?"""
        if len(self.scope.guards) != self._asked or len(self._good) > 10_000:
            self._asked, self._good = len(self.scope.guards), set()
        if sizes in self._good:
            return True
        if self.failing(sizes):
            return False
        self._good.add(sizes)
        return True

    def failing(self, sizes: tuple[int, ...]) -> list[Guard]:
        """The guards that do not hold for the symbols' sizes."""
        known = dict(zip(self.symbols, sizes))
        return [
            g for g in self.guards
            if dims.symbols_of(g.expression) <= known.keys() and not g.holds(known)
        ]  # fmt: skip

    def equalities(self) -> dict[Symbol, Extent]:
        """The symbols that the guards tie to numbers or to other symbols.

        A graph in which they are replaced says openly what a trace only assumed, such as a size
        of 1 that is stretched.
        """
        found: dict[Symbol, Extent] = {}
        for g in self.guards:
            if g.question != "zero" or not g.answer:
                continue
            solved = _solved(dims.substitute(g.expression, found))
            if solved is not None:
                symbol, value = solved
                found = {s: dims.substitute(v, {symbol: value}) for s, v in found.items()}
                found[symbol] = value
        return found


def _solved(expression: Extent) -> tuple[Symbol, Extent] | None:
    """The last symbol by which `expression` = 0 can be solved without a division."""
    if isinstance(expression, int):
        return None
    symbols = sorted(dims.symbols_of(expression), key=lambda s: -s.order)
    for symbol in symbols:
        own = [(m, c) for m, c in expression.terms if any(symbol in _symbols(atom) for atom in m)]
        if len(own) == 1 and own[0][0] == (symbol,) and abs(own[0][1]) == 1:
            size = Dim((((symbol,), 1),))
            rest = expression - size * own[0][1]
            return symbol, -rest if own[0][1] == 1 else rest
    return None


def _symbols(atom: Any) -> set[Symbol]:
    return dims.symbols_of(Dim((((atom,), 1),)))


class _Writer:
    """Python source with the objects that it names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "E": EagerTensor,
            "A": np.ndarray,
            "contiguous": _in_order,
            "same_float": _same_float,
        }
        self.wrap = "E"
        self.arrays: list[str] = []
        self.sizes: list[str] = []

    def name(self, x: Any, prefix: str = "k") -> str:
        found = f"{prefix}{len(self.names)}"
        self.names[found] = x
        return found


def _in_order(x: Any) -> Array:
    return array_of(x) if isinstance(x, EagerTensor) else np.array(x, order="C")


def _same_float(x: float, bits: bytes) -> bool:
    return type(x) is float and struct.pack("d", x) == bits


def matcher(
    arguments: Arguments, types: list[Any], guards: SizeGuards, borrows: Callable[[], bool]
) -> Matcher | None:
    """A function of a call's positional arguments that gives the arrays to run on, or None where
    they do not fit. None in place of it where calls need binding first.

    `borrows` says whether a run may have the caller's own NumPy arrays: it only reads them.
    """
    if arguments.kwargs:
        return None
    w = _Writer()
    w.names["borrows"] = borrows
    n = len(arguments.args)
    if n:
        w.lines.append(f"if len(args) != {n}: return None")
        w.lines.append(f"{', '.join(f'a{i}' for i in range(n))}, = args")
    else:
        w.lines.append("if args: return None")
    remaining = iter(types)
    for i, arg in enumerate(arguments.args):
        _match(w, f"a{i}", arg, remaining)
    if w.sizes:
        w.names["hold"] = guards.hold
        w.lines.append(f"if not hold(({', '.join(w.sizes)},)): return None")
    w.lines.append(f"return [{', '.join(w.arrays)}]")
    body = "\n        ".join(w.lines)
    source = (
        f"def match(args):\n    try:\n        {body}\n"
        "    except (KeyError, AttributeError):\n        return None\n"
    )
    exec(compile(source, __file__, "exec"), w.names)  # a frame of ours in tracebacks
    return w.names["match"]


def _match(w: _Writer, path: str, x: Any, types: Any) -> None:
    if is_tensor_leaf(x):
        _match_tensor(w, path, next(types))
    elif nest.is_nest(x):
        kind = w.name(type(x))
        w.lines.append(f"if type({path}) is not {kind}: return None")
        if isinstance(x, list | tuple | dict):
            w.lines.append(f"if len({path}) != {len(x)}: return None")
        for step, part in nest.children(x):
            if isinstance(x, dict):
                step = f"[{w.name(next(k for k in x if f'[{k!r}]' == step))}]"
            inner = w.name(None, "t")
            w.lines.append(f"{inner} = {path}{step}")
            _match(w, inner, part, types)
    else:
        _match_plain(w, path, x)


def _match_tensor(w: _Writer, path: str, t: Any) -> None:
    x = w.name(None, "x")
    w.lines += [
        f"if type({path}) is E: {x} = {path}.array",
        f"elif type({path}) is A and {path}.flags.aligned and borrows(): {x} = {path}",
        "else: return None",
    ]
    dtype = w.name(t.dtype.dtype)
    if t.static:
        w.lines.append(f"if {x}.shape != {t.shape!r} or {x}.dtype is not {dtype}: return None")
    else:
        fixed = [f" or {x}_s[{i}] != {n}" for i, n in enumerate(t.shape) if isinstance(n, int)]
        w.lines.append(f"{x}_s = {x}.shape")
        w.lines.append(
            f"if len({x}_s) != {len(t.shape)} or {x}.dtype is not {dtype}{''.join(fixed)}: "
            "return None"
        )
        w.sizes += [f"{x}_s[{i}]" for i, n in enumerate(t.shape) if not isinstance(n, int)]
    w.lines.append(f"if not {x}.flags.c_contiguous: {x} = contiguous({path})")
    w.arrays.append(x)


def _match_plain(w: _Writer, path: str, x: Any) -> None:
    key = leaf_key(x)
    if isinstance(key, MethodIdentity) or (type(key) is tuple and key[0] in (frozenset, complex)):
        w.names["leaf_key"] = leaf_key
        w.lines.append(f"if leaf_key({path}) != {w.name(key)}: return None")
    elif isinstance(key, Identity):
        w.lines.append(f"if {path} is not {w.name(key.ref)}(): return None")
    elif key[0] is float:
        w.lines.append(f"if not same_float({path}, {w.name(key[1])}): return None")
    else:
        c, kind = w.name(x), w.name(type(x))
        w.lines.append(
            f"if {path} is not {c} and (type({path}) is not {kind} or {path} != {c}): return None"
        )


class Slot:
    """Stands for output number `index` in the structure of a result."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Listed:
    """Stands for a list, of as many items as the outputs in the structure `rows` have rows."""

    __slots__ = ("rows",)

    def __init__(self, rows: Any) -> None:
        self.rows = rows


def listed(rows: Any) -> list[Any]:
    """The items of a list, given as a structure of tensors with a further first axis."""
    if rows is None:
        return []
    count = nest.flatten(rows)[0].type.shape[0]
    return [nest.map_structure(lambda x, i=i: x[i], rows) for i in range(count)]


def result_builder(structure: Any, tensors: bool = False) -> Callable[[list[Any]], Any]:
    """A function from the list of output arrays, or tensors, to what the call returns."""
    w = _Writer()
    w.wrap = "" if tensors else "E"
    text = _build(w, structure)
    return eval(f"lambda o: {text}", w.names)


def _build(w: _Writer, x: Any) -> str:
    if isinstance(x, Slot):
        return f"{w.wrap}(o[{x.index}])"
    if isinstance(x, Listed):
        return f"{w.name(listed)}({_build(w, x.rows)})"
    if not nest.is_nest(x):
        return w.name(x)
    if type(x) is list or type(x) is tuple:
        parts = ", ".join(_build(w, v) for v in x)
        return f"[{parts}]" if type(x) is list else f"({parts}{',' if len(x) == 1 else ''})"
    kind = w.name(type(x))
    if isinstance(x, dict):
        parts = ", ".join(f"{w.name(k)}: {_build(w, v)}" for k, v in x.items())
        like = f"{w.name(nest.like_dict)}({w.name(x)}, "
        return f"{{{parts}}}" if type(x) is dict else f"{like}{{{parts}}})"
    if hasattr(x, "_fields"):
        return f"{kind}._make([{', '.join(_build(w, v) for v in x)}])"
    if isinstance(x, list | tuple):
        return f"{kind}([{', '.join(_build(w, v) for v in x)}])"
    values = ", ".join(f"{name!r}: {_build(w, getattr(x, name))}" for name in nest.fields(x))
    return f"{w.name(nest.with_fields)}({w.name(x)}, {{{values}}})"
