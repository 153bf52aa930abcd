"""Tensors: what users hold. `EagerTensor` owns an array, `SymbolicTensor` is a value of a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphgrad import numpy_protocol
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import GraphgradError, NoValueError, TraceError
from graphgrad.compiler.ir import Builder, Value, leaked
from graphgrad.compiler.op import ops, state
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.types import TensorType, element_count, tensor_type
from graphgrad.tracebacks import filtered

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES = {d.dtype: d for d in dtypes.ALL}
BUFFERS = frozenset(np.dtype(c) for c in "fdFD")  # NumPy can wrap their memory
CPU_NAME = "/job:localhost/replica:0/task:0/device:CPU:0"


class TensorShape(tuple[Any, ...]):
    """A shape: a tuple with TensorFlow's methods. Sizes that a trace leaves open are `Dim`s.

    >>> TensorShape((2, 3)), TensorShape((2, 3)).as_list(), TensorShape((2, 3)) == (2, 3)
    (TensorShape([2, 3]), [2, 3], True)
    """

    __slots__ = ()

    def as_list(self) -> list[int | None]:
        """The sizes, None for the unknown ones."""
        return [n if isinstance(n, int) else None for n in self]

    @property
    def rank(self) -> int:
        return len(self)

    ndims = rank

    @property
    def dims(self) -> list[Any]:
        return list(self)

    def num_elements(self) -> int | None:
        """The number of elements, or None while a size is unknown."""
        n = element_count(self)
        return n if isinstance(n, int) else None

    def is_fully_defined(self) -> bool:
        return all(isinstance(n, int) for n in self)

    def is_compatible_with(self, other: Any) -> bool:
        """Could both be the shape of one tensor? None and unknown sizes fit any size."""
        mine, theirs = self.as_list(), TensorShape(other).as_list()
        return len(mine) == len(theirs) and all(
            a is None or b is None or a == b for a, b in zip(mine, theirs)
        )

    def __repr__(self) -> str:
        return f"TensorShape({self.as_list()})"

    def __str__(self) -> str:
        return str(tuple(self.as_list()))


class Reference:
    """Stands for a tensor or variable by identity: hashable, where tensors are not."""

    __slots__ = ("_wrapped",)

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def deref(self) -> Any:
        """What it stands for."""
        return self._wrapped

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._wrapped is other._wrapped

    def __hash__(self) -> int:
        return id(self._wrapped)

    def __repr__(self) -> str:
        return f"<Reference wrapping {self._wrapped!r}>"


class TensorLike(Arith):
    """What tensors and variables share beyond arithmetic."""

    __slots__ = ()

    @property
    def shape(self) -> Any:
        """The sizes of the axes.

        >>> import graphgrad as gg
        >>> gg.zeros((2, 3)).shape
        TensorShape([2, 3])
        """
        return TensorShape(self.type.shape)

    def get_shape(self) -> Any:
        """The shape (TensorFlow's older name)."""
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Nothing, after a check that `shape`, in which None is any size, fits this one."""
        numpy_protocol.namespace["ensure_shape"](self, shape)

    @property
    def device(self) -> str:
        return CPU_NAME

    @property
    def T(self) -> Any:
        """The axes in reverse order."""
        return self.transpose(tuple(reversed(range(self.ndim))))

    @property
    def real(self) -> Any:
        """The real parts."""
        return numpy_protocol.namespace["math.real"](self)

    @property
    def imag(self) -> Any:
        """The imaginary parts."""
        return numpy_protocol.namespace["math.imag"](self)

    def conj(self) -> Any:
        """The complex conjugates."""
        return numpy_protocol.namespace["math.conj"](self)

    def ref(self) -> Reference:
        """A hashable stand-in, equal for one and the same tensor."""
        return Reference(self)

    def __hash__(self) -> int:  # type: ignore[override]
        raise TypeError("Tensor is unhashable. Instead, use tensor.ref() as the key.")

    def __getitem__(self, key: Any) -> Any:
        return ops_index(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            f"{type(self).__name__!r} object does not support item assignment: tensors do not "
            "change. Keep what changes in a gg.Variable, and assign to v[key].assign(value), or "
            "use gg.where for a new tensor"
        )

    def __len__(self) -> int:
        shape = self.type.shape
        if not shape:
            raise TypeError("Scalar tensor has no `len()`.")
        n = shape[0]
        if isinstance(n, Dim):
            raise TraceError(
                f"len() of a tensor whose first size {n} is not known while tracing; "
                "use x.shape[0] in shapes, or gg.shape(x)[0] as a tensor",
                here(),
            )
        return n

    def __iter__(self) -> Iterator[Any]:
        shape = self.type.shape
        if not shape:
            raise TypeError("Cannot iterate over a scalar tensor.")
        if isinstance(shape[0], Dim):
            raise TraceError(
                f"iterating over a tensor whose first size {shape[0]} is not known while tracing; "
                "use gg.while_loop over range(x.shape[0]), or whole-tensor operations",
                here(),
            )
        return (self[i] for i in range(shape[0]))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return numpy_protocol.ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return numpy_protocol.function(func, args, kwargs)


def ops_index(x: Any, key: Any) -> Any:
    """`x[key]` by the ops at hand."""
    try:
        return numpy_protocol.namespace["__getitem__"](x, key)
    except GraphgradError as e:
        filtered(e)
        raise


class Tensor(TensorLike):
    """An immutable array of one element type, eager or symbolic.

    Tensors come from `gg.constant`, from operations, and, inside `gg.function`, from its
    arguments. They do not change, are not hashable (see `ref`), and `==` compares elements.

    >>> import graphgrad as gg
    >>> x = gg.constant([1.0, 2.0])
    >>> isinstance(x, gg.Tensor), x + 1
    (True, <gg.Tensor: shape=(2,), dtype=float32, numpy=array([2., 3.], dtype=float32)>)
    """

    __slots__ = ()


class EagerTensor(Tensor):
    """A tensor with a value.

    `array` is its storage: nobody writes to it while this tensor lives, and users get read-only
    views of it, whose base it is, so that its reference count tells whether anybody else holds
    the memory.
    """

    __slots__ = ("array", "origin", "__weakref__")

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def type(self) -> TensorType:  # type: ignore[override]
        array = self.array
        return tensor_type(array.shape, DTYPES[array.dtype])

    @property
    def shape(self) -> Any:
        return TensorShape(self.array.shape)

    @property
    def dtype(self) -> DType:
        return DTYPES[self.array.dtype]

    @property
    def ndim(self) -> int:
        return self.array.ndim

    def reshape(self, shape: Any) -> Any:
        """The elements in row-major order as `shape`."""
        shape = tuple(shape)
        if self.array.shape == shape:
            return self
        if state.recorders or state.builder is not None:
            return ops["reshape"](self, shape)
        try:
            return EagerTensor(self.array.reshape(shape))
        except (TypeError, ValueError):  # an error that the op says better, or unknown sizes
            return ops["reshape"](self, shape)

    def broadcast_to(self, shape: Any) -> Any:
        """Stretched to `shape`."""
        shape, array = tuple(shape), self.array
        if array.shape == shape:
            return self
        wrapped = array.size == 1 and array.dtype in BUFFERS and array.ndim <= len(shape)
        if not wrapped or state.recorders or state.builder is not None:
            return ops["broadcast_to"](self, shape)
        try:  # in the memory of the one element
            return EagerTensor(np.ndarray(shape, array.dtype, array, 0, (0,) * len(shape)))
        except (TypeError, ValueError, BufferError):
            return ops["broadcast_to"](self, shape)

    def numpy(self) -> Any:
        """The value as a read-only NumPy array, without a copy (a NumPy scalar for 0 dimensions).

        >>> import graphgrad as gg
        >>> gg.constant([1, 2]).numpy()
        array([1, 2], dtype=int32)
        """
        if self.array.ndim == 0:
            return self.array[()]
        return self._view()

    def _view(self) -> Array:
        view = self.array.view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy:
            return np.array(self.array, dtype=dtype)
        if dtype is None or np.dtype(dtype) == self.array.dtype:
            return self._view()
        if copy is False:
            raise ValueError(f"cannot view {self.dtype.name} as {np.dtype(dtype)} without a copy")
        return self.array.astype(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        if options.get("max_version") is None:  # the old protocol cannot say "read-only"
            return self.array.__dlpack__(**options)
        return self._view().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ValueError(
                f"The truth value of a tensor with {self.array.size} elements is ambiguous. "
                "Use gg.reduce_any(x) or gg.reduce_all(x)."
            )
        return bool(self.array.reshape(())[()])

    def __float__(self) -> float:
        return float(self._real("float"))

    def __int__(self) -> int:
        return int(self._real("int"))

    def __complex__(self) -> complex:
        return complex(self._only("complex"))

    def __index__(self) -> int:
        if not self.dtype.is_integer or self.array.ndim:
            raise TypeError(f"only 0-d integer tensors can be an index, this is {self.type}")
        return int(self.array[()])

    def _real(self, what: str) -> Any:
        if self.dtype.is_complex:
            raise TypeError(f"{self.type} does not convert to {what}; take its .real, or gg.abs")
        return self._only(what)

    def _only(self, what: str) -> Any:
        if self.array.size != 1:
            raise TypeError(f"only tensors with one element convert to {what}, this is {self.type}")
        return self.array.reshape(())[()]

    def item(self) -> Any:
        """The only element as a Python number."""
        return self._only("a number").item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.array.tolist()

    def __format__(self, spec: str) -> str:
        """As NumPy formats the value: f"{loss:.3f}" of 0-d tensors, f"{x}" of all."""
        if self.array.ndim == 0:
            return format(self.array.item(), spec) if spec else str(self.array[()])
        if spec:
            raise TypeError(
                f"the format {spec!r} takes a 0-d tensor, this is {self.type}; format its elements"
            )
        return str(self.array)

    def __str__(self) -> str:
        return f"gg.Tensor({value_text(self.array, False)}, {self._kind_text()})"

    def __repr__(self) -> str:
        return f"<gg.Tensor: {self._kind_text()}, numpy={value_text(self.array, True)}>"

    def _kind_text(self) -> str:
        return f"shape={self.array.shape}, dtype={self.dtype.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (self.array if self.array.flags.owndata else self.array.copy(),)

    def __copy__(self) -> EagerTensor:
        return self

    def __deepcopy__(self, memo: Any) -> EagerTensor:
        return self


def restore(array: Array) -> EagerTensor:
    """A tensor from what pickling kept of it."""
    return EagerTensor(np.asarray(array))


def value_text(array: Array, is_repr: bool) -> str:
    """The value as TensorFlow prints it: NumPy's text, on lines of its own if it has several."""
    if array.ndim == 0:
        return str(array[()])
    text = repr(array) if is_repr else str(array)
    return "\n" + text if is_repr and "\n" in text else text


class SymbolicTensor(Tensor, Value):
    """A tensor of a trace: it has a type and the line that made it, and no value yet."""

    __slots__ = ("origin",)

    def __init__(
        self, type: TensorType, builder: Builder | None, where: Where | None = None
    ) -> None:
        Value.__init__(self, type, builder, where)

    __hash__ = Value.__hash__

    def _no_value(self, what: str, instead: str) -> TraceError:
        if self.builder is not None and not self.builder.open:
            return leaked(self)
        made = f" (made in {self.where.describe()})" if self.where is not None else ""
        return NoValueError(
            f"{what} needs the value of a symbolic tensor {self.type}{made}, and while a function "
            f"is traced there is none yet; {instead}",
            state.where or here(),
        )

    def numpy(self) -> Any:
        raise self._no_value(".numpy()", "return the tensor and call .numpy() outside")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise self._no_value(
            "converting to a NumPy array",
            "call the graphgrad function in place of the NumPy one (gg.sin for np.sin)",
        )

    def __bool__(self) -> bool:
        # Imported here: errors alone need it.
        from graphgrad.conversion.reasons import reason

        why = reason()
        raise self._no_value(
            "a Python condition (if, while, and, or, not, assert)",
            f"{why}{'; ' if why else ''}"
            "use gg.cond(pred, true_fn, false_fn), gg.while_loop or gg.where",
        )

    def __float__(self) -> float:
        raise self._no_value("float()", "keep it a tensor (gg.cast changes its dtype)")

    def __int__(self) -> int:
        raise self._no_value("int()", "keep it a tensor (gg.cast changes its dtype)")

    def __complex__(self) -> complex:
        raise self._no_value("complex()", "keep it a tensor")

    def __index__(self) -> int:
        raise self._no_value(
            "a Python index or range()", "use gg.gather to index, gg.while_loop to repeat"
        )

    def item(self) -> Any:
        raise self._no_value(".item()", "return the tensor, and ask outside")

    def __format__(self, spec: str) -> str:
        if spec:
            raise self._no_value(f"the format {spec!r}", "return the tensor, and format it outside")
        return str(self)

    def tolist(self) -> Any:
        raise self._no_value(".tolist()", "return the tensor, and ask outside")

    def __str__(self) -> str:
        return f"gg.Tensor(symbolic, shape={self.shape}, dtype={self.dtype.name})"

    def __repr__(self) -> str:
        made = f", made in {self.where.short()}" if self.where is not None else ""
        return f"<gg.Tensor: symbolic, shape={self.shape}, dtype={self.dtype.name}{made}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise self._no_value("pickling", "return the tensor from the function first")
