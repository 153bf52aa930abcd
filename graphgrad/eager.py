"""Eager execution: each op runs its NumPy reference at once.

The general way is `EagerKind.call`: lift, prepare (casts, broadcasts), run, tell the tapes. Ops on
tensors of one dtype take a short way around preparation, since NumPy broadcasts by itself.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from operator import is_not
from typing import Any

import numpy as np

from graphgrad import numpy_protocol
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import holds_tensor
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import GraphgradError, TraceError
from graphgrad.compiler.families import Control, Elementwise, Reduce, View
from graphgrad.compiler.ir import Value, leaked, to_array
from graphgrad.compiler.op import Attrs, Op, located, ops, set_eager, state
from graphgrad.compiler.ops.view import broadcast_to
from graphgrad.compiler.source import here
from graphgrad.runtime.memory import aligned_copy
from graphgrad.tensor import BUFFERS, Array, EagerTensor
from graphgrad.tracebacks import filtered

ndarray = np.ndarray
FLOATS = frozenset({d.dtype for d in dtypes.ALL if d.is_inexact and d.bits > 16})
ALIGNED = 1 << 16  # bytes from which on copies of arrays begin at a cache line
WORDS = FLOATS | {d.dtype for d in dtypes.ALL if d.is_integer}


class Quiet(threading.local):
    """Runs NumPy without floating-point warnings: NaN and inf are values.

    `run` is a method of a context, one a thread, in which NumPy's error state is "ignore"; entering
    it costs a thirtieth of `np.errstate`. It cannot be entered twice, so what may call back into
    graphgrad runs under `np.errstate` instead.
    """

    def __init__(self) -> None:
        context = contextvars.copy_context()
        context.run(np.seterr, all="ignore")
        self.run: Callable[..., Any] = context.run


quiet = Quiet()


def wrap(result: Any) -> EagerTensor:
    """A tensor of what a reference gave: an array, or a NumPy scalar for 0 dimensions."""
    return EagerTensor(result if type(result) is ndarray else np.asarray(result))


def array_of(x: EagerTensor) -> Array:
    """The storage of `x`, contiguous in row-major order; made so once where it was not."""
    array = x.array
    if not array.flags.c_contiguous:
        array = x.array = array.copy(order="C")
    return array


class EagerKind:
    """The kind of value outside traces."""

    def call(self, op: Op, args: tuple[Any, ...], attrs: Attrs) -> Any:
        if not attrs:
            short = _short.get(op)
            if short is not None:
                return short(*args)
        return self.general(op, args, attrs)

    def general(self, op: Op, args: tuple[Any, ...], attrs: Attrs) -> Any:
        """Lift, prepare and run."""
        inputs, attrs = op.prepare(self, args, attrs)
        outputs = self.apply(op, inputs, attrs)
        return outputs if op.multi else outputs[0]

    def apply(self, op: Op, inputs: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        """Run the reference on the arrays of prepared tensors, and tell the tapes."""
        arrays = [x.array for x in inputs]
        if not isinstance(op, Elementwise):  # their dtypes and shapes were joined in preparation
            self._check(op, inputs, attrs)
        try:
            if isinstance(op, Control) or op.effect:
                with np.errstate(all="ignore"):
                    result = op.ref(*arrays, **attrs)
            else:
                result = quiet.run(op.ref, *arrays, **attrs)
        except GraphgradError as e:
            raise e.at(state.where or here()) from None
        except (ValueError, TypeError, IndexError, OverflowError):
            op.infer(tuple(x.type for x in inputs), attrs)  # the error that says what is wrong
            raise
        outputs = tuple(map(wrap, result)) if op.multi else (wrap(result),)
        for recorder in state.recorders:
            recorder.record(op, inputs, attrs, outputs)
        return outputs

    def _check(self, op: Op, inputs: tuple[Any, ...], attrs: Attrs) -> None:
        """Raise what a trace would raise, where NumPy might let it pass.

        Reductions and views are cheap, and NumPy refuses wrong shapes: once for each dtype will do.
        """
        if isinstance(op, Reduce | View):
            key = (op, arrays_dtype(inputs))
            if key not in _checked:
                op.infer(tuple(x.type for x in inputs), attrs)
                _checked.add(key)
        else:
            op.infer(tuple(x.type for x in inputs), attrs)

    def lift(self, x: object, dtype: DType | None = None) -> Any:
        """`x` as an eager tensor; arrays are copied, since their owner may write to them."""
        if isinstance(x, EagerTensor):
            return x
        if hasattr(x, "__graphgrad_value__"):
            return x.__graphgrad_value__()
        if isinstance(x, Value):
            raise leaked(x)
        if isinstance(x, Dim):
            raise TraceError(f"the size {x} belongs to a trace that has ended", here())
        if isinstance(x, list | tuple) and holds_tensor(x):
            return stacked(x, dtype)
        return EagerTensor(owned_array(x, dtype))


def stacked(x: Sequence[Any], dtype: DType | None) -> Any:
    """A nested list with tensors in it as one tensor; derivatives flow to each."""
    parts = [stacked(v, dtype) if isinstance(v, list | tuple) else v for v in x]
    result = numpy_protocol.namespace["stack"](parts)
    return result if dtype is None else result.cast(dtype)


@located
def owned_array(x: object, dtype: DType | None) -> Array:
    """A fresh array of `x` that nobody else holds, in row-major order.

    Large ones begin at a cache line, where NumPy's do not: vectors that cross from one line to the
    next are loaded twice, which made a kernel take 1.5 ms instead of 1.0.
    """
    array = to_array(x, dtype)
    return aligned_copy(array) if array.nbytes >= ALIGNED else np.array(array, order="C")


_KNOWN = frozenset(d.dtype for d in dtypes.ALL)


def arrays_dtype(inputs: tuple[Any, ...]) -> Any:
    """The NumPy dtype of the first input."""
    return inputs[0].array.dtype if inputs else None


_checked: set[Any] = set()
_short: dict[Op, Callable[..., Any]] = {}
eager = EagerKind()
set_eager(eager)


def general(op: Op, *args: Any) -> Any:
    """The general way, in the kind at work; variables are read, and may then go the short way."""
    if state.builder is None:
        read = tuple(
            [a.__graphgrad_value__() if hasattr(a, "__graphgrad_value__") else a for a in args]
        )
        if any(map(is_not, read, args)):
            return _short[op](*read)
    return eager_or_traced(op, args, {})


_NUMBERS = frozenset(d.dtype for d in dtypes.ALL if not d.is_bool)
_FLOATING = frozenset(d.dtype for d in dtypes.ALL if d.is_inexact)
_COMPLEX = frozenset(d.dtype for d in dtypes.ALL if d.is_complex)
_INTEGERS = frozenset(d.dtype for d in dtypes.ALL if d.is_integer)
_BOOL = frozenset({np.dtype(np.bool_)})
_ALLOWED = {
    "promote": _KNOWN, "number": _NUMBERS, "float": _FLOATING, "divide": _FLOATING,
    "bits": _INTEGERS | _BOOL, "integer": _INTEGERS, "bool": _BOOL,
}  # fmt: skip


def short_ways() -> dict[str, Callable[..., Any]]:
    """A function for each op that tensors of one dtype can take straight to NumPy."""
    found: dict[str, Callable[..., Any]] = {}
    for op in ops.values():
        if isinstance(op, Elementwise) and op.bind is None and op.inputs in _ALLOWED:
            allowed = _ALLOWED[op.inputs] - (frozenset() if op.takes_complex else _COMPLEX)
            if op.arity == 1:
                found[op.name] = _short[op] = _unary(op, allowed)
            elif op.arity == 2:
                found[op.name] = _short[op] = _binary(op, allowed)
        elif op.bind is not None and _reduces(op.bind):
            found[op.name] = _short[op] = _reduction(op)
    found["matmul"] = _product(ops["matmul"])
    return found


def _reduces(bind: Callable[..., Any]) -> bool:
    """Does `bind` take the arguments of a reduction?"""
    code = getattr(bind, "__code__", None)  # `inspect.signature` takes a part of the import
    if code is None:
        return False
    return code.co_varnames[: code.co_argcount] == ("input_tensor", "axis", "keepdims", "name")


def _unary(op: Elementwise, allowed: frozenset[Any]) -> Callable[..., Any]:
    ref, run_of, none = op.ref, quiet, {}  # type: ignore[var-annotated]

    def call(x: Any, name: str | None = None) -> Any:
        if type(x) is EagerTensor and state.builder is None and x.array.dtype in allowed:
            try:
                result = run_of.run(ref, x.array)
            except Exception:  # the general way finds it again, and says it better
                return general(op, x)
            out = EagerTensor(result if type(result) is ndarray else np.asarray(result))
            for recorder in state.recorders:
                recorder.record(op, (x,), none, (out,))
            return out
        return general(op, x)

    return call if op.parameter == "x" else _by_keyword(op.parameter, call)


def _by_keyword(parameter: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` for callers that may name its argument."""

    def named(*args: Any, **keywords: Any) -> Any:
        if parameter in keywords:
            args = (keywords.pop(parameter), *args)
        return call(*args, **keywords)

    return named


def _binary(op: Op, allowed: frozenset[Any]) -> Callable[..., Any]:
    ref, run_of, none = op.ref, quiet, {}  # type: ignore[var-annotated]
    broadcasts = isinstance(ref, np.ufunc)
    direct = FLOATS & allowed

    def call(x: Any, y: Any, name: str | None = None) -> Any:
        if type(x) is not EagerTensor and type(y) is EagerTensor and state.builder is None:
            x = beside(x, y.array)
        if type(x) is EagerTensor and state.builder is None:
            a = x.array
            b: Any = y
            recorders = state.recorders
            if type(y) is EagerTensor:
                b = y.array
                if a.dtype is not b.dtype or a.dtype not in allowed:
                    return general(op, x, y)
                if (recorders or not broadcasts) and a.shape != b.shape:
                    same = stretched(y, a.shape)
                    if same is not None:
                        y, b = same, same.array
                    else:
                        same = stretched(x, b.shape)
                        if same is None:
                            return general(op, x, y)
                        x, a = same, same.array
            elif type(y) is float or type(y) is int:
                if recorders or not broadcasts or a.dtype not in direct:
                    y = beside(y, a)
                    if type(y) is not EagerTensor or a.dtype not in allowed:
                        return general(op, x, y)
                    b = y.array
            else:
                return general(op, x, y)
            try:
                result = run_of.run(ref, a, b)
            except Exception:  # the general way finds it again, and says it better
                return general(op, x, y)
            out = EagerTensor(result if type(result) is ndarray else np.asarray(result))
            for recorder in recorders:
                recorder.record(op, (x, y), none, (out,))
            return out
        return general(op, x, y)

    return call


def stretched(x: EagerTensor, shape: tuple[int, ...]) -> EagerTensor | None:
    """`broadcast_to` in the memory of `x`, told to the tapes; None where that cannot be."""
    array = x.array
    own = array.shape
    lead = len(shape) - len(own)
    if lead < 0 or array.dtype not in BUFFERS:
        return None
    strides = (0,) * lead + array.strides
    if shape[lead:] != own:
        if any(n != 1 and n != m for n, m in zip(own, shape[lead:])):
            return None
        strides = tuple(0 if n == 1 else s for n, s in zip((0,) * lead + own, strides))
    try:
        out = EagerTensor(np.ndarray(shape, array.dtype, array, 0, strides))
    except (TypeError, ValueError, BufferError):  # no contiguous memory, or none at all
        return None
    for recorder in state.recorders:
        recorder.record(broadcast_to, (x,), {"shape": shape}, (out,))
    return out


def _reduction(op: Op) -> Callable[..., Any]:
    """Over all axes or one: the attributes depend on the arguments and the rank alone."""
    ref, run_of, known = op.ref, quiet, {}  # type: ignore[var-annotated]
    none = type(None)

    def call(
        input_tensor: Any, axis: Any = None, keepdims: Any = False, *args: Any, **named: Any
    ) -> Any:
        x = input_tensor
        plain = type(x) is EagerTensor and state.builder is None and type(keepdims) is bool
        if not plain or args or named or (type(axis) is not int and type(axis) is not none):
            return eager_or_traced(op, (x, axis, keepdims, *args), named)
        array = x.array
        key = array.ndim, array.dtype, axis, keepdims
        try:
            attrs = known.get(key)
            if attrs is None:
                assert op.bind is not None
                attrs = op.bind(x, axis, keepdims)[1]
                op.infer((x.type,), attrs)
                known[key] = attrs
            result = run_of.run(ref, array, **attrs)
        except Exception:  # the general way finds it again, and says it better
            return eager_or_traced(op, (x, axis, keepdims), {})
        out = EagerTensor(result if type(result) is ndarray else np.asarray(result))
        for recorder in state.recorders:
            recorder.record(op, (x,), attrs, (out,))
        return out

    return call


def _product(op: Op) -> Callable[..., Any]:
    """Of two matrices of one floating dtype."""
    matmul, run_of = np.matmul, quiet
    attrs = {"transpose_a": False, "transpose_b": False}

    def call(a: Any, b: Any, *flags: Any, **named: Any) -> Any:
        if type(a) is EagerTensor and state.builder is None and not flags and not named:
            if hasattr(b, "__graphgrad_value__"):
                b = b.__graphgrad_value__()
            if type(b) is EagerTensor:
                x, y = a.array, b.array
                alike = x.ndim == 2 == y.ndim and x.dtype is y.dtype and x.dtype in FLOATS
                if alike and x.shape[1] == y.shape[0]:
                    out = EagerTensor(run_of.run(matmul, x, y))
                    for recorder in state.recorders:
                        recorder.record(op, (a, b), attrs, (out,))
                    return out
        try:
            return op(a, b, *flags, **named)
        except GraphgradError as e:
            filtered(e)
            raise

    return call


def eager_or_traced(op: Op, args: tuple[Any, ...], attrs: Attrs) -> Any:
    """The general way with attributes, in the kind at work."""
    builder = state.builder
    try:
        return eager.general(op, args, attrs) if builder is None else builder.call(op, args, attrs)
    except GraphgradError as e:
        filtered(e)
        raise


def beside(number: Any, like: Array) -> Any:
    """A Python number as the other operand of a tensor's array, at every place of its shape in the
    memory of one element; `number` itself where it does not simply take the array's dtype."""
    kind, dtype = type(number), like.dtype
    if not ((kind is float and dtype in FLOATS) or (kind is int and dtype in WORDS)):
        return number
    try:
        one = np.array(number, dtype)
    except OverflowError:
        return number
    return EagerTensor(np.ndarray(like.shape, dtype, one, 0, (0,) * like.ndim))


_OPERATORS = {
    "__add__": "add", "__sub__": "sub", "__mul__": "mul", "__truediv__": "div",
    "__floordiv__": "floordiv", "__mod__": "mod", "__pow__": "pow", "__eq__": "equal",
    "__ne__": "not_equal", "__lt__": "less", "__le__": "less_equal", "__gt__": "greater",
    "__ge__": "greater_equal", "__neg__": "neg", "__abs__": "abs",
    "__matmul__": "matmul", "cotangent_product": "cotangent_product",
}  # fmt: skip


def install_operators(short: dict[str, Callable[..., Any]]) -> None:
    """Give eager tensors the short way for their operators, and `None == x` its meaning."""
    for method, name in _OPERATORS.items():
        if name in short:
            function = short[name]
            if name in ("equal", "not_equal"):
                function = _comparison(function, name == "not_equal")
            setattr(EagerTensor, method, function)
    for method, name in (("__radd__", "add"), ("__rmul__", "mul")):
        if name in short:  # the order does not matter to the result, bit by bit
            setattr(EagerTensor, method, _reflected(short[name]))


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any, y: Any) -> Any:
        return function(x, y)

    return call


def _comparison(function: Callable[..., Any], unequal: bool) -> Callable[..., Any]:
    def call(x: Any, y: Any) -> Any:
        return unequal if y is None else function(x, y)

    return call
