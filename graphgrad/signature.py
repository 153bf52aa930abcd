"""What tells one trace of a function from another: the specifications of its arguments."""

from __future__ import annotations

import enum
import inspect
import struct
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dtypes import DType, as_dtype
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.source import here
from graphgrad.eager import EagerTensor, eager, owned_array
from graphgrad.tensor import TensorShape

PLAIN = (
    bool, int, str, bytes, type(None), complex, type, DType, np.dtype, enum.Enum, range, slice,
    type(Ellipsis), TensorShape,
)  # fmt: skip
CHANGEABLE = (set, bytearray, deque)  # neither structures nor values that a key can hold


class TensorSpec:
    """The dtype and shape that an argument must have; None in `shape` is any size.

    >>> TensorSpec([None, 3], "float32")
    TensorSpec(shape=(None, 3), dtype=gg.float32, name=None)
    """

    __slots__ = ("shape", "dtype", "name")

    def __init__(self, shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> None:
        if shape is None:
            raise ArgumentError("TensorSpec: give the rank, with None for each open size", here())
        self.shape = TensorShape(None if n is None else int(n) for n in shape)
        self.dtype = as_dtype(dtype)
        self.name = name

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        """The specification of a tensor."""
        return cls(tensor.shape.as_list(), tensor.dtype, name)

    @property
    def key(self) -> tuple[Any, ...]:
        return "tensor", tuple(self.shape), self.dtype

    def is_compatible_with(self, other: Any) -> bool:
        """Would `other`, a tensor, a specification or what becomes a tensor, do?"""
        if not hasattr(other, "dtype"):
            other = eager.lift(other)
        return as_dtype(other.dtype) == self.dtype and self.shape.is_compatible_with(other.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorSpec) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype!r}, name={self.name!r})"


class Identity:
    """A Python object in a trace's key: by identity, held weakly where possible."""

    __slots__ = ("ref", "id")

    def __init__(self, x: Any) -> None:
        self.id: Any = id(x)
        try:
            self.ref: Callable[[], Any] = weakref.ref(x)
        except TypeError:
            self.ref = lambda: x

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity) or self.id != other.id:
            return False
        found = self.ref()
        return found is not None and found is other.ref()

    def __hash__(self) -> int:
        return hash(self.id)


class MethodIdentity(Identity):
    """A bound method in a key: each access makes another object, of one instance and function."""

    __slots__ = ()

    def __init__(self, x: types.MethodType) -> None:
        self.id = id(x.__self__), id(x.__func__)
        try:
            self.ref = weakref.WeakMethod(x)
        except TypeError:
            self.ref = lambda: x

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MethodIdentity) or self.id != other.id:
            return False
        return self.ref() is not None and other.ref() is not None

    __hash__ = Identity.__hash__


def is_tensor_leaf(x: object) -> bool:
    """Is `x` passed as data? Variables are passed by identity."""
    return isinstance(x, EagerTensor | np.ndarray | np.generic | TensorSpec)


def leaf_key(x: Any) -> Any:
    """What a leaf contributes to the key: dtype and shape, type and value, or identity."""
    if isinstance(x, EagerTensor | np.ndarray | np.generic):
        shape = x.array.shape if isinstance(x, EagerTensor) else x.shape
        return "tensor", shape, as_dtype(x.dtype)
    if isinstance(x, TensorSpec):
        return x.key
    if isinstance(x, Identity):
        return x
    if type(x) is float:
        return float, struct.pack("d", x)
    if type(x) is complex:
        return complex, struct.pack("dd", x.real, x.imag)
    if isinstance(x, PLAIN):
        try:
            hash(x)
            return type(x), x
        except TypeError:  # a slice, before Python 3.12
            return type(x), repr(x)
    if isinstance(x, frozenset):
        return frozenset, frozenset(map(leaf_key, x))
    if isinstance(x, types.MethodType):
        return MethodIdentity(x)
    if isinstance(x, CHANGEABLE):
        raise DTypeError(
            f"a {type(x).__name__} as an argument of a gg.function can change between calls "
            "without notice: pass a tuple, a frozenset or bytes", here()
        )  # fmt: skip
    return Identity(x)


def is_tensor_key(key: Any) -> bool:
    """Is this the `leaf_key` of data?"""
    return type(key) is tuple and key[0] == "tensor"


def without_sizes(keys: Iterable[Any]) -> tuple[Any, ...]:
    """Keys of leaves with the ranks of data in place of shapes."""
    return tuple([("tensor", len(k[1]), k[2]) if is_tensor_key(k) else k for k in keys])


def show_leaf(key: Any, x: Any = None) -> str:
    """A leaf of a key in reports: `f32[2, None]`, `int 3`, or the class of an object."""
    if isinstance(key, Identity):
        found = key.ref()
        return f"object {type(found).__name__}" if found is not None else "an object that is gone"
    if key[0] == "tensor":
        return f"{key[2].short}[{', '.join(map(str, key[1]))}]"
    if key[0] is frozenset:
        return f"frozenset {{{', '.join(sorted(map(show_leaf, key[1])))}}}"
    value = key[1]
    if key[0] is float:
        (value,) = struct.unpack("d", value)
    elif key[0] is complex:
        value = complex(*struct.unpack("dd", value))
    return f"{key[0].__name__} {value!r}"


class Arguments:
    """The arguments of one call in canonical form: positional, then keyword-only."""

    __slots__ = ("args", "kwargs", "leaves", "_key")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self.leaves = nest.flatten((args, kwargs))
        self._key: Any = None

    @property
    def key(self) -> Any:
        if self._key is None:
            layout = nest.layout((self.args, self.kwargs))
            self._key = (layout, tuple(map(leaf_key, self.leaves)))
        return self._key

    def form(self, specs: list[TensorSpec | None]) -> Arguments:
        """What a trace keeps of its arguments: no data, and objects weakly."""
        kept = []
        for x, spec in zip(self.leaves, specs):
            key = None if spec is not None else leaf_key(x)
            kept.append(spec if spec is not None else key if isinstance(key, Identity) else x)
        args, kwargs = nest.pack((self.args, self.kwargs), kept)
        return Arguments(args, kwargs)

    @property
    def tensors(self) -> list[Any]:
        return [x for x in self.leaves if is_tensor_leaf(x)]


def _checked(
    input_signature: Any, name: str, signature: inspect.Signature | None
) -> tuple[Any, ...] | None:
    """The input signature, if it is one for a function of this signature."""
    if input_signature is None:
        return None
    if not isinstance(input_signature, list | tuple):
        raise DTypeError(
            f"input_signature is a list with an entry an argument, got {input_signature!r}", here()
        )
    for path, entry in nest.flatten_with_path(tuple(input_signature), "input_signature"):
        if not isinstance(entry, TensorSpec | None):
            raise DTypeError(
                f"{path} of `{name}` is {entry!r}: an entry is a gg.TensorSpec, a structure of "
                "them, or None for an argument that is None", here()
            )  # fmt: skip
    if signature is None:
        return tuple(input_signature)
    kinds = [p.kind for p in signature.parameters.values()]
    places = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places += kinds.count(inspect.Parameter.POSITIONAL_ONLY)
    if len(input_signature) > places and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise DTypeError(
            f"the input signature of `{name}` has {len(input_signature)} entries, and the "
            f"function takes {places} positional arguments", here()
        )  # fmt: skip
    return tuple(input_signature)


class Signature:
    """A function's parameters: how calls become canonical, and what `input_signature` demands."""

    def __init__(
        self, function: Callable[..., Any], name: str, input_signature: Any = None
    ) -> None:
        self.name = name
        try:
            # The defaults of NumPy's ufuncs may not be passed all at once.
            known = not isinstance(function, np.ufunc)
            found = inspect.signature(function) if known else None
        except (ValueError, TypeError):  # a builtin
            found = None
        self.signature: inspect.Signature | None = found
        parameters = list(self.signature.parameters.values()) if self.signature else []
        simple = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY
        self.names = [p.name for p in parameters]
        self.positional = sum(p.kind in simple for p in parameters)
        self.simple = self.signature is not None and all(p.kind in simple for p in parameters)
        self.input_signature = _checked(input_signature, name, self.signature)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """The canonical arguments of a call; TypeError as Python gives it for a wrong call."""
        if self.signature is not None and (
            kwargs or not self.simple or len(args) != len(self.names)
        ):
            try:
                bound = self.signature.bind(*args, **kwargs)
            except TypeError as e:
                raise TypeError(f"{self.name}() {e}") from None
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        if self.input_signature is None:
            return Arguments(args, kwargs)
        return Arguments(self._fitted(args), kwargs)

    def _fitted(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments as tensors that satisfy the input signature."""
        assert self.input_signature is not None
        specs = self.input_signature
        if len(args) < len(specs):
            raise DTypeError(
                f"{self.name}: the input signature has {len(specs)} arguments, got {len(args)}",
                here(),
            )
        fitted = []
        for label, arg, spec in zip(self.labels_of(len(specs)), args, specs):
            flat = [
                self._fit(x, s, label + path)
                for path, s, x in nest.flatten_up_to(
                    spec, arg, f"{self.name}: argument `{label}` and its input signature"
                )
            ]
            fitted.append(nest.pack(spec, flat))
        return (*fitted, *args[len(specs) :])

    def _fit(self, x: Any, spec: Any, label: str) -> Any:
        if spec is None:
            if x is not None:
                raise DTypeError(
                    f"{self.name}: argument `{label}` is to be None, as the input signature says",
                    here(),
                )
            return x
        if isinstance(x, TensorSpec):
            found = x
        else:
            if not isinstance(x, Arith):
                weak = not isinstance(x, np.ndarray | np.generic)
                x = EagerTensor(owned_array(x, spec.dtype if weak else None))
            else:
                x = eager.lift(x) if not hasattr(x, "builder") else x
            found = TensorSpec.from_tensor(x)
        if not spec.is_compatible_with(found):
            raise DTypeError(
                f"{self.name}: argument `{label}` is "
                f"{TensorSpec(found.shape.as_list(), found.dtype)}, and the input signature wants "
                f"{spec}", here()
            )  # fmt: skip
        return x

    def labels_of(self, count: int) -> list[str]:
        """A name for each of the first `count` positional arguments."""
        if self.signature is None:
            return [f"args[{i}]" for i in range(count)]
        names: list[str] = []
        for p in self.signature.parameters.values():
            if p.kind is p.VAR_POSITIONAL:
                names += [f"{p.name}[{i}]" for i in range(count - len(names))]
            elif p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY):
                names.append(p.name)
        return names[:count]

    def labels(self, arguments: Arguments) -> list[str]:
        """A name for each leaf, as in `params['w'][0]`."""
        found = []
        for name, arg in zip(self.labels_of(len(arguments.args)), arguments.args):
            found += [name + path for path, _ in nest.flatten_with_path(arg)]
        for name in sorted(arguments.kwargs):
            found += [name + path for path, _ in nest.flatten_with_path(arguments.kwargs[name])]
        return found
