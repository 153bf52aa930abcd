"""Variables: values that can be assigned to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad import numpy_protocol, tracing
from graphgrad.compiler.dtypes import DType, as_dtype
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError, TraceError
from graphgrad.compiler.ir import Value, leaked
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.source import here
from graphgrad.compiler.types import TensorType
from graphgrad.eager import array_of, eager, owned_array
from graphgrad.scattering import ScatterMethods
from graphgrad.tensor import Array, EagerTensor, SymbolicTensor, TensorLike, TensorShape, value_text
from graphgrad.tracing import Active


class Variable(ScatterMethods, TensorLike):
    """A tensor that can be assigned to; everywhere else it behaves as its value.

    Tapes watch trainable variables of floating dtype when they are read. Inside `gg.function`,
    assignments take effect in program order, and only if the call succeeds. `shape` may leave
    sizes open (None) for later assignments.

    >>> import graphgrad as gg
    >>> v = gg.Variable([1.0, 2.0])
    >>> v.assign_add([1.0, 1.0])
    <gg.Variable 'Variable:0' shape=(2,) dtype=float32, numpy=array([2., 3.], dtype=float32)>
    >>> (v * 2).numpy()
    array([4., 6.], dtype=float32)
    """

    __slots__ = (
        "_value",
        "_type",
        "_shape",
        "_lock",
        "name",
        "trainable",
        "constraint",
        "__weakref__",
    )

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        validate_shape: bool = True,
        name: str | None = None,
        dtype: Any = None,
        constraint: Callable[[Any], Any] | None = None,
        shape: Any = None,
        **unused: Any,
    ) -> None:
        if initial_value is None:
            raise ArgumentError("gg.Variable needs an initial value", here())
        tensor = _initial(initial_value, None if dtype is None else as_dtype(dtype))
        self._lock = threading.RLock()
        self._value: EagerTensor | None = EagerTensor(tensor.array)
        self._type: TensorType = tensor.type
        self._shape = None if shape is None else tuple(shape)
        self.trainable = True if trainable is None else bool(trainable)
        self.name = f"{name or 'Variable'}:0"
        self.constraint = constraint
        if self._shape is not None and not TensorShape(self._shape).is_compatible_with(
            tensor.shape
        ):
            raise ShapeError(
                f"gg.Variable: the initial value has shape {tensor.shape}, not {shape}", here()
            )
        builder = tracing.function_builder()
        if builder is not None:
            _register(builder, self)

    # Reading

    @property
    def type(self) -> TensorType:  # type: ignore[override]
        builder = tracing.function_builder() if state.builder is not None else None
        if builder is not None:
            for table in reversed(builder.tables):
                if id(self) in table.values:
                    return table.values[id(self)].type
        return self._type

    @property
    def shape(self) -> Any:
        return TensorShape(self.type.shape if self._shape is None else self._shape)

    @property
    def dtype(self) -> DType:
        return self._type.dtype

    def tensor(self) -> EagerTensor:
        """The current value, unseen by tapes; waits while a running call owns its memory."""
        value = self._value
        if value is None:
            with self._lock:
                value = self._value
                assert value is not None
        return value

    def __graphgrad_value__(self) -> Any:
        builder: Any = state.builder
        if builder is None:
            value: Any = self.tensor()
        else:
            trace = tracing.function_builder()
            value = trace.read(self) if trace is not None else self.tensor()
            value = builder.lift(value)
        if Active.replays:
            return self._read_in_replay(value)
        for recorder in state.recorders:  # as `tell_read` does, without a call
            on_read = getattr(recorder, "on_read", None)
            if on_read is not None:
                on_read(self, value)
        return value

    def _read_in_replay(self, value: Any) -> Any:
        """The value that it had in the run that this thread repeats, if it repeats one."""
        table = tracing.replayed()
        found = None if table is None else table.values.get(id(self))
        value = value if found is None else current_kind().lift(found)
        tracing.tell_read(self, value)
        return value

    def value(self) -> Any:
        """The current value as a tensor, which later assignments do not change."""
        return self.__graphgrad_value__()

    def read_value(self) -> Any:
        """The current value as a tensor of its own: to assign to its elements leaves the variable
        as it is.
        """
        return self.value() if state.builder is None else ops["identity"](self.value())

    def numpy(self) -> Any:
        """The value as a NumPy array that later assignments do not change."""
        return self.value().numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.value().__array__(dtype, copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.value().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor().__dlpack_device__()

    def __bool__(self) -> bool:
        return bool(self.value())

    def __float__(self) -> float:
        return float(self.value())

    def __int__(self) -> int:
        return int(self.value())

    def __complex__(self) -> complex:
        return complex(self.value())

    def __index__(self) -> int:
        return self.value().__index__()

    def __format__(self, spec: str) -> str:
        return format(self.value(), spec) if spec else str(self)

    def __pos__(self) -> Any:
        return self.value()

    def __getitem__(self, key: Any) -> Any:
        """The elements at `key`; the result can be assigned to: `v[1:].assign(x)`."""
        value = self.value()
        part = value[key]
        if part is value:
            part = ops["identity"](value)
        part.__class__ = EagerSlice if isinstance(part, EagerTensor) else SymbolicSlice
        part.origin = (self, key)
        return part

    def __hash__(self) -> int:  # type: ignore[override]
        raise TypeError(
            "Variable is unhashable. Instead, use variable.ref() as the key. (Variable: "
            f"{self.name!r})"
        )

    # Writing

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "'Variable' object does not support item assignment; use v[key].assign(value)"
        )

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Set the value; returns the variable. The shape and dtype must fit.

        Gradients flow through the assigned value: after `v.assign(f(x))`, what is computed from
        `v` has a derivative with respect to `x`, and with respect to `v` at its new value.
        """
        self._set(self._fit(value, "assign"))
        return self

    def assign_add(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Add `delta` to the value; returns the variable."""
        return self._update("add", delta, "assign_add")

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Subtract `delta` from the value; returns the variable."""
        return self._update("sub", delta, "assign_sub")

    def _update(self, op: str, delta: Any, method: str) -> Any:
        delta = self._fit(delta, method, broadcast=True)
        with self._lock:
            self._set(self._fit(ops[op](self.value(), delta), method))
        return self

    def _fit(self, value: Any, method: str, broadcast: bool = False) -> Any:
        """`value` as a tensor of this variable's dtype and of a shape that it takes."""
        if type(value) is EagerTensor and state.builder is None and self._shape is None:
            array = value.array  # most updates
            if array.dtype is self._type.dtype.dtype and array.shape == self._type.shape:
                return value
        kind = current_kind()
        if hasattr(value, "__graphgrad_value__"):
            value = value.__graphgrad_value__()
        foreign = not isinstance(value, TensorLike | Value)
        tensor = kind.lift(value, self.dtype) if foreign else kind.lift(value)
        if tensor.dtype is not self.dtype:
            raise DTypeError(
                f"{method}: the variable {self.name!r} is {self.dtype.name}, the value is "
                f"{tensor.dtype.name}; cast it with gg.cast(value, gg.{self.dtype.name})", here()
            )  # fmt: skip
        wanted = self.type.shape if self._shape is None else self._shape
        if not TensorShape(wanted).is_compatible_with(tensor.type.shape):
            if broadcast and len(tensor.type.shape) <= len(wanted):
                return tensor.broadcast_to(self.type.shape)
            raise ShapeError(
                f"{method}: the variable {self.name!r} has shape "
                f"{TensorShape(wanted).as_list()}, the value is {tensor.type}", here()
            )  # fmt: skip
        return tensor

    def _set(self, tensor: Any) -> None:
        """Make `tensor` the value: in a trace from here on, else at once.

        The new value is a tensor of its own, so that a gradient with respect to this variable
        counts what was read from it, and not other uses of the assigned tensor.
        """
        if self.constraint is not None:
            tensor = self._fit(self.constraint(tensor), "constraint")
        if state.builder is None or (Active.replays and tracing.replayed() is not None):
            self.install(tensor)
            return
        trace = tracing.function_builder()
        if trace is None:
            raise tracing.cannot_write()
        version = ops["identity"](tensor)
        trace.write(self, version)
        tracing.tell_assigned(self, version)

    def install(self, tensor: Any) -> None:
        """Make `tensor` the value at once, as a tensor of its own; in a replay for that alone."""
        table = tracing.replayed() if Active.replays else None
        if table is not None:
            version = table.values[id(self)] = ops["identity"](tensor)
        else:
            version = EagerTensor(tensor.array)
            for recorder in state.recorders:
                recorder.record(ops["identity"], (tensor,), {}, (version,))
            self.commit(version)
        tracing.tell_assigned(self, version)

    def commit(self, tensor: EagerTensor) -> None:
        """Install a value that fits, at once."""
        with self._lock:
            self._value = tensor
            if self._shape is not None:
                self._type = tensor.type

    def lend(self) -> Array:
        """Give up the value for a run that writes a new one; the lock is held until `commit`.

        If nobody else holds the tensor, the run's list then has the only reference to its array,
        and an output may take that memory.
        """
        value = self.tensor()
        self._value = None
        return array_of(value)

    def assign_slice(self, key: Any, value: Any) -> Any:
        """Set the elements at `key`, as `v[key].assign(value)` does."""
        with self._lock:
            self._set(ops_update(self.value(), key, value))
        return self

    # The rest

    def initialized_value(self) -> Any:
        """The value (TensorFlow's older name)."""
        return self.value()

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        start = f"<gg.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}"
        if state.builder is not None:
            return start + ">"
        return f"{start}, numpy={value_text(self.tensor().array, True)}>"

    def __copy__(self) -> Variable:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: Any) -> Variable:
        copy = restore_variable(*self.__reduce__()[1])
        memo[id(self)] = copy
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        array = np.array(self.tensor().array, order="C")
        return restore_variable, (array, self.trainable, self.name, self.constraint, self._shape)


def restore_variable(
    array: Any, trainable: bool, name: str, constraint: Any, shape: Any
) -> Variable:
    """A variable from what pickling kept of it: value, name, and how it behaves."""
    with tracing.outside():
        v = Variable(array, trainable, constraint=constraint, shape=shape)
    v.name = name
    return v


def _initial(value: Any, dtype: DType | None) -> EagerTensor:
    """The initial value as a tensor, outside of any trace."""
    if callable(value) and not isinstance(value, TensorLike):
        with tracing.outside():
            value = value()
    if isinstance(value, Value):
        value = evaluate_now(value)
    with tracing.outside():
        tensor = value if isinstance(value, EagerTensor) else None
        if tensor is None and not isinstance(value, TensorLike | list | tuple):
            return EagerTensor(owned_array(value, dtype))
        tensor = eager.lift(value, dtype) if tensor is None else tensor
        return tensor if dtype is None else tensor.cast(dtype)


def evaluate_now(value: Any) -> EagerTensor:
    """A value of the trace in progress that does not depend on the function's arguments."""
    trace = tracing.function_builder()
    if value.builder is not None and not value.builder.open:
        raise leaked(value)
    if trace is None or value.builder is not trace:
        raise TraceError(
            "a variable's initial value must not depend on a conditional or loop", here()
        )
    return trace.evaluate(value)


def _register(builder: tracing.FunctionBuilder, variable: Variable) -> None:
    if not builder.may_create:
        raise ArgumentError(
            "gg.function only supports singleton gg.Variables created on the first call. Make sure "
            "the gg.Variable is only created once or created outside gg.function.", here()
        )  # fmt: skip
    builder.created.append(variable)


def ops_update(x: Any, key: Any, value: Any) -> Any:
    """`x` with the elements at `key` replaced."""
    return numpy_protocol.namespace["__setitem__"](x, key, value)


class Part(TensorLike):
    """Part of a variable, which can be assigned to."""

    __slots__ = ()

    def assign(self, value: Any, **unused: Any) -> Any:
        """Set this part of the variable; returns the variable."""
        return _assign_part(self, lambda old: value)

    def assign_add(self, delta: Any, **unused: Any) -> Any:
        """Add to this part of the variable; returns the variable."""
        return _assign_part(self, lambda old: old + delta)

    def assign_sub(self, delta: Any, **unused: Any) -> Any:
        """Subtract from this part of the variable; returns the variable."""
        return _assign_part(self, lambda old: old - delta)


class EagerSlice(Part, EagerTensor):
    __slots__ = ()


class SymbolicSlice(Part, SymbolicTensor):
    __slots__ = ()

    __hash__ = Value.__hash__


def _assign_part(part: Any, change: Callable[[Any], Any]) -> Any:
    variable, key = part.origin
    with variable._lock:
        return variable.assign_slice(key, change(variable.value()[key]))
