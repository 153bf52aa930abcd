"""Gradient tapes: they record what happens to watched values, and walk it backwards."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from operator import is_
from types import FrameType
from typing import Any

import numpy as np

from graphgrad import hot_tapes, nest, tape_jacobians
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import same_size
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import Attrs, Op, state
from graphgrad.compiler.passes.records import stabilise
from graphgrad.compiler.source import here, is_internal, user_level
from graphgrad.compiler.transform.autodiff import backprop, pushforward
from graphgrad.compiler.types import element_count
from graphgrad.records import Record
from graphgrad.tape_arguments import (
    UnconnectedGradients,
    given_seeds,
    in_form_of,
    need_tensor,
    one_tensor,
    ones_like,
    refuse_leaked,
    seed,
    wants_zeros,
    zeros_like,
)
from graphgrad.tensor import EagerTensor
from graphgrad.variable import Variable

USED_UP = (
    "A non-persistent GradientTape can only be used to compute one set of gradients (or jacobians)"
)


_frame = sys._getframe
_new = tuple.__new__  # without the function in between that names the fields


class GradientTape:
    """Records operations on watched tensors, for derivatives by reverse mode.

    Trainable variables are watched when they are read; tensors by `watch`. One set of gradients
    can be asked for, or any number if `persistent`. Tapes nest, for higher orders.

    >>> import graphgrad as gg
    >>> x = gg.constant(3.0)
    >>> with gg.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> tape.gradient(y, x)
    <gg.Tensor: shape=(), dtype=float32, numpy=6.0>
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._recording = False
        self._used = False
        self._clear()

    def _clear(self) -> None:
        self._records: list[Any] = []  # each a Record
        self._active: set[int] = set()  # ids of watched values and what came of them
        self._watched: list[Any] = []  # they stay alive, so ids stay their own
        self._variables: dict[int, Variable] = {}
        self._versions: dict[int, dict[int, Any]] = {}  # the values read, by variable
        self._assigned: set[int] = set()  # ids of values that were assigned to variables
        self._known: Any = None  # what is known of the last walk, if it could have run compiled
        self._compiled = False  # it did

    # Recording

    def __enter__(self) -> GradientTape:
        if self._recording:
            raise ValueError(
                "Tape is still recording, This can happen if you try to re-enter an "
                "already-active tape."
            )
        if self._used:
            self._used = False
            self._clear()
        self._push()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._recording:
            self._pop()

    def _push(self) -> None:
        state.recorders = (*state.recorders, self)
        self._recording = True

    def _pop(self) -> None:
        recorders = state.recorders
        if recorders[-1] is self:
            state.recorders = recorders[:-1]
        else:
            state.recorders = tuple(r for r in recorders if r is not self)
        self._recording = False

    def record(
        self, op: Op, inputs: tuple[Any, ...], attrs: Attrs, outputs: tuple[Any, ...]
    ) -> None:
        """Called with every application in this thread; keeps those that touch watched values."""
        active = self._active
        for x in inputs:
            if id(x) in active:
                break
        else:
            return
        if op.nondifferentiable:
            return
        known, code, instruction = state.where, None, 0
        if known is None:
            frame: FrameType | None = _frame(2)  # the caller is ours
            while frame is not None:
                code = frame.f_code
                if not is_internal(code.co_filename):
                    instruction = frame.f_lasti
                    break
                frame = frame.f_back
            else:
                code = None
        self._records.append(_new(Record, (op, inputs, attrs, outputs, known, code, instruction)))
        for y in outputs:
            active.add(id(y))

    def wants(self, values: Any) -> bool:
        """Is any of `values` watched?"""
        active = self._active
        return any(id(x) in active for x in values)

    def on_read(self, variable: Variable, value: Any) -> None:
        """Called when a variable is read."""
        key = id(variable)
        if key not in self._variables:
            if not (self._watch_accessed and variable.trainable and variable.dtype.is_inexact):
                return
            self._variables[key] = variable
            self._versions[key] = {}
        self._versions[key][id(value)] = value
        self._active.add(id(value))

    def on_assign(self, variable: Variable, value: Any) -> None:
        """Called when a variable gets a value."""
        if id(value) in self._active:
            self._assigned.add(id(value))

    def watch(self, tensor: Any) -> None:
        """Have `tensor`, or each one of a nested structure, traced by this tape.

        Raises ValueError for what is no tensor, None inside of a structure excepted; a tensor that
        is not floating gets a warning.
        """
        if type(tensor) is EagerTensor and state.builder is None and tensor.dtype.is_inexact:
            self._watched.append(tensor)  # the loop below, for most calls
            self._active.add(id(tensor))
            return
        for t in nest.flatten(tensor):
            if t is None and tensor is not None:
                continue
            need_tensor(t)
            if not t.dtype.is_inexact:
                warnings.warn(
                    "The dtype of the watched tensor must be floating (e.g. gg.float32), got "
                    f"{t.dtype!r}", stacklevel=user_level()
                )  # fmt: skip
                continue
            if isinstance(t, Variable):
                self._variables.setdefault(id(t), t)
                self._versions.setdefault(id(t), {})
                t.value()
            else:
                t = _canonical(t)
                self._watched.append(t)
                self._active.add(id(t))

    def watched_variables(self) -> tuple[Variable, ...]:
        """The variables that this tape watches, in the order of their first read."""
        return tuple(self._variables.values())

    def stop_recording(self) -> AbstractContextManager[None]:
        """Record nothing for the duration of a `with` block.

        RuntimeError if the tape is used up, ValueError if it does not record.
        """
        if self._used:
            raise RuntimeError(USED_UP)
        if not self._recording:
            raise ArgumentError("Tape is not recording.", here())
        return self._paused()

    @contextmanager
    def _paused(self) -> Iterator[None]:
        self._pop()
        try:
            yield
        finally:
            self._push()

    def reset(self) -> None:
        """Forget everything recorded and watched."""
        self._clear()

    # Differentiation

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
    ) -> Any:
        """The derivative of `target` with respect to `sources`, in the structure of `sources`.

        Several targets are summed, and so are the elements of one (or weighted with
        `output_gradients`, of the same structure). A source without a path, or one that is not
        watched, gives None, or zeros if `unconnected_gradients` is "zero".

        >>> import graphgrad as gg
        >>> v = gg.Variable([1.0, 2.0])
        >>> with gg.GradientTape() as tape:
        ...     y = v * v
        >>> tape.gradient(y, {"v": v})["v"].numpy()
        array([2., 4.], dtype=float32)
        """
        zeros = unconnected_gradients is not UnconnectedGradients.NONE
        if zeros:
            zeros = wants_zeros(unconnected_gradients)
        self._begin()
        flat, ends = self._sources(sources)
        found = self._gradients(self._targets(target, output_gradients), ends)
        if zeros:
            found = [zeros_like(s) if g is None else g for s, g in zip(ends, found)]
        self._finish()
        if type(sources) is list and len(sources) == len(ends) and all(map(is_, sources, flat)):
            return found
        return in_form_of(sources, flat, found)

    def jacobian(
        self,
        target: Any,
        sources: Any,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """All derivatives of `target` by `sources`: for each, target.shape + source.shape.

        The rows are computed together, `parallel_iterations` at once (all, unless it is given):
        fewer take less memory. No path gives None, or zeros on request.

        >>> import graphgrad as gg
        >>> x = gg.constant([1.0, 2.0])
        >>> with gg.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.jacobian(y, x).numpy()
        array([[2., 0.],
               [0., 4.]], dtype=float32)
        """
        zeros = wants_zeros(unconnected_gradients)
        target = one_tensor(target, "jacobian: the target")
        self._begin()
        shape, count = target.type.shape, target.type.size
        flat, ends = self._sources(sources)

        def seeds(start: Any, size: Any) -> Any:
            return tape_jacobians.unit_rows(start, size, count, target.dtype).reshape(
                (size, *shape)
            )

        rows = self._rows(target, seeds, count, ends, parallel_iterations)
        if zeros:
            rows = [zeros_like(s, (count,)) if r is None else r for r, s in zip(rows, ends)]
        found = [
            None if r is None else r.reshape((*shape, *s.type.shape)) for r, s in zip(rows, ends)
        ]
        return in_form_of(sources, flat, found)

    def batch_jacobian(
        self,
        target: Any,
        source: Any,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The Jacobian of each example: target[i] by source[i], where the first axes are examples.

        The result has shape (examples, *target.shape[1:], *source.shape[1:]); derivatives of one
        example by another are taken to be 0.

        >>> import graphgrad as gg
        >>> x = gg.constant([[1.0, 2.0], [3.0, 4.0]])
        >>> with gg.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = gg.reduce_sum(x * x, 1, keepdims=True)
        >>> tape.batch_jacobian(y, x).numpy().tolist()
        [[[2.0, 4.0]], [[6.0, 8.0]]]
        """
        zeros = wants_zeros(unconnected_gradients)
        target = one_tensor(target, "batch_jacobian: the target")
        one_tensor(source, "batch_jacobian: the source")
        for what, t in (("target", target), ("source", source)):
            if not t.type.shape:
                raise ShapeError(
                    f"batch_jacobian: the {what} is one number, without a batch axis: use jacobian",
                    here(),
                )
        size, *inner = target.type.shape
        if not same_size(size, source.type.shape[0]):
            raise ShapeError(
                "batch_jacobian: Need first dimension of target shape "
                f"({target.shape}) and source shape ({source.shape}) to match.", here()
            )  # fmt: skip
        self._begin()
        count = element_count(inner)

        def seeds(start: Any, rows: Any) -> Any:
            units = tape_jacobians.unit_rows(start, rows, count, target.dtype).reshape(
                (rows, 1, *inner)
            )
            return units.broadcast_to((rows, size, *inner))

        (end,) = self._sources(source)[1]
        (rows,) = self._rows(target, seeds, count, [end], parallel_iterations)
        if rows is None:
            if not zeros:
                return None
            rows = zeros_like(end, (count,))
        rows = rows.transpose([1, 0, *range(2, rows.ndim)])
        return rows.reshape((size, *inner, *source.type.shape[1:]))

    def forward(self) -> Callable[[list[tuple[Any, Any]], list[Any]], list[Any]]:
        """What was recorded as a function that pushes tangents forward: from pairs of a value and
        its tangent, and targets, to the tangents of these, None where there is no path."""
        records = stabilise(self._records, sources=self._watched, constant=self._constant)

        def push(seeds: list[tuple[Any, Any]], targets: list[Any]) -> list[Any]:
            own = [(self._own(x), t) for x, t in seeds]
            return pushforward(records, own, [self._own(y) for y in targets])

        return push

    def report(self) -> str:
        """How the last gradient of this tape was computed: operation by operation, and why, or
        compiled, and to which kernels. See `gg.config.compile_hot_tapes`.

        >>> import graphgrad as gg
        >>> v = gg.Variable(3.0)
        >>> with gg.GradientTape() as tape:
        ...     y = v * v
        >>> tape.gradient(y, v).numpy(), tape.report().partition(":")[0]
        (np.float32(6.0), 'operation by operation')
        """
        known = self._known
        return "operation by operation" if known is None else known.report(self._compiled)

    def _rows(
        self,
        target: Any,
        seeds: Callable[[Any, Any], Any],
        count: Any,
        sources: list[Any],
        at_once: int | None,
    ) -> list[Any]:
        """The gradients of each source for many seeds at once, or None where there is no path.

        `seeds(start, size)` gives so many of the `count` seeds.
        """
        owned = self._own(target)
        found: list[Any] = [None] * len(sources)
        if id(owned) in self._active and owned.dtype.is_inexact:
            blocks = [
                self._block(owned, seeds(start, size), sources)
                for start, size in tape_jacobians.blocks(count, at_once, "parallel_iterations")
            ]
            found = [None if p[0] is None else tape_jacobians.joined(p) for p in zip(*blocks)]
        self._finish()
        return found

    def _block(self, target: Any, seeds: Any, sources: list[Any]) -> list[Any]:
        if state.builder is None and not state.recorders and not self._assigned:
            groups, others = self._groups(sources)
            found = tape_jacobians.known_rows(
                self._records, target, groups, others, self._constant, seeds
            )
            if found is not None:
                return found
        return tape_jacobians.traced_rows(lambda g: self._walk([(target, g)], sources), seeds)

    def _sources(self, sources: Any) -> tuple[list[Any], list[Any]]:
        """The leaves of `sources`, and what stands for them on this tape: None is left out."""
        flat = nest.flatten(sources)
        ends: list[Any] = []
        for s in flat:
            if isinstance(s, Variable):
                ends.append(s)
            elif s is not None or sources is None:
                need_tensor(s, " as a source")
                ends.append(self._own(s))
        return flat, ends

    def _finish(self) -> None:
        """Let go of the records, unless they may be asked again."""
        if not self._persistent:
            self._records = []
            self._active = set()

    def _own(self, t: Any) -> Any:
        """The object that stands for `t` on this tape, which may be older than the trace."""
        return t if id(t) in self._active else _canonical(t)

    def _begin(self) -> None:
        if self._used:
            raise RuntimeError(USED_UP)
        if not self._persistent:
            if self._recording:
                self._pop()
            self._used = True

    def _targets(self, target: Any, output_gradients: Any) -> list[tuple[Any, Any]]:
        """The recorded targets, each with its cotangent; None stands for ones."""
        plain = output_gradients is None and type(target) is EagerTensor
        if plain and state.builder is None and target.dtype.is_inexact:
            return [(target, None)] if id(target) in self._active else []
        targets = nest.flatten(target)
        if output_gradients is None:
            given: list[Any] = [None] * len(targets)
        else:
            given = given_seeds(target, output_gradients)
        found = []
        for t, g in zip(targets, given):
            if not isinstance(t, Arith):
                raise DTypeError(
                    f"gradient: the target is {t!r} of type {type(t).__name__!r}, not a tensor",
                    here(),
                )
            refuse_leaked(t)
            if not t.dtype.is_inexact:
                warnings.warn(
                    "The dtype of the target tensor must be floating (e.g. gg.float32) when "
                    f"calling GradientTape.gradient, got {t.dtype!r}", stacklevel=3
                )  # fmt: skip
                continue
            if isinstance(t, Variable):
                value = t.value()
                self.on_read(t, value)
                t = value
            t = self._own(t)
            if id(t) in self._active:
                found.append((t, None if g is None else seed(t, g)))
        return found

    def _gradients(self, targets: list[tuple[Any, Any]], sources: list[Any]) -> list[Any]:
        """The gradient of each source: by a compiled walk where the tape is hot and nobody else
        looks on."""
        if not targets:
            return [None] * len(sources)
        self._known, self._compiled = None, False
        if state.builder is None and not state.recorders and self._records and not self._assigned:
            family = hot_tapes.family_of(self._records)
            if family is not None:
                groups, others = self._groups(sources)
                walk = hot_tapes.Walk(self._records, targets, groups, others, self._constant)
                found, self._known = family.reverse(walk)
                if found is not None:
                    self._compiled = True
                    return found
        return self._walk([(t, _ones_like(t) if g is None else g) for t, g in targets], sources)

    def _groups(self, sources: list[Any]) -> tuple[list[Any], list[Any]]:
        """The values that each source stands for (none for a tensor that is not watched), and those
        of variables that are no sources."""
        versions, active = self._versions, self._active
        groups, asked = [], set()
        for s in sources:
            if isinstance(s, Variable):
                asked.add(id(s))
                groups.append(tuple(versions.get(id(s), {}).values()))
            else:
                groups.append((s,) if id(s) in active else ())
        if versions.keys() <= asked:
            return groups, []
        return groups, [x for v, read in versions.items() if v not in asked for x in read.values()]

    def _walk(self, seeds: list[tuple[Any, Any]], sources: list[Any]) -> list[Any]:
        """The gradient of each source, operation by operation.

        That of a variable is the sum over the values read from it. Each of these counts as
        independent of the variable's earlier values, so that `v * v` before and after
        `v.assign_add(1)` differentiates each at its own value.
        """
        if not seeds:
            return [None] * len(sources)
        records: Any = stabilise(
            self._records, sources=self._ends(sources), constant=self._constant
        )
        wanted: list[Any] = []  # what the walker is asked for, with the source it belongs to
        owners: list[int] = []
        found: list[Any] = [None] * len(sources)
        for i, s in enumerate(sources):
            if not isinstance(s, Variable):
                if id(s) in self._active:
                    wanted.append(s)
                    owners.append(i)
                continue
            versions = list(self._versions.get(id(s), {}).values())
            cut = self._assigned.intersection(map(id, versions))
            if cut:  # a value assigned on this tape was read: stop at each value
                kept = [r for r in records if not cut.intersection(map(id, r.outputs))]
                found[i] = _total(backprop(kept, seeds, versions))
            else:
                wanted += versions
                owners += [i] * len(versions)
        for i, g in zip(owners, backprop(records, seeds, wanted) if wanted else []):
            if g is not None:
                found[i] = g if found[i] is None else found[i] + g
        return found

    def _ends(self, sources: list[Any]) -> Iterator[Any]:
        """The values at which derivatives are asked for: stability rules stop at them."""
        for s in sources:
            if not isinstance(s, Variable):
                yield s
        for versions in self._versions.values():
            yield from versions.values()

    def _constant(self, value: Any) -> Any:
        """The NumPy scalar that all elements of a tensor are which no tape watches, or None."""
        return None if id(value) in self._active else constant_of(value)


def constant_of(value: Any) -> Any:
    """The NumPy scalar that all elements of a tensor are which no active recorder follows, or
    None."""
    if type(value) is not EagerTensor or value.array.size == 0:
        return None
    if any(hasattr(r, "wants") and r.wants((value,)) for r in state.recorders):
        return None
    array = value.array
    first = array.flat[0]
    if first != array.flat[-1] or not (array == first).all():
        return None
    return first


def _total(gradients: list[Any]) -> Any:
    total = None
    for g in gradients:
        if g is not None:
            total = g if total is None else total + g
    return total


def _canonical(t: Any) -> Any:
    """The object that stands for `t` in the trace in progress."""
    return t if state.builder is None else state.builder.lift(t)


def _ones_like(t: Any) -> Any:
    if type(t) is not EagerTensor:
        return ones_like(t)
    array = t.array
    if array.ndim:
        return EagerTensor(np.ones(array.shape, array.dtype))
    one = _ones.get(array.dtype)
    if one is None:
        one = _ones[array.dtype] = np.ones((), array.dtype)
    return EagerTensor(one)


_ones: dict[Any, Any] = {}  # 0-d arrays by dtype: most targets are scalars
