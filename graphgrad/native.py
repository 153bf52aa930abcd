"""Calls made by native code: what it must know of a trace to match and run it without Python.

A trace that has run twice gets a form (`graphgrad.runtime.entry`), if its arguments, captures and
outputs are of the common kinds. Everything else, and every call that does not fit, stays with
`Function.__call__` as it is written.
"""

from __future__ import annotations

import functools
import inspect
import math
import threading
import time
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler.families import Control
from graphgrad.compiler.op import state
from graphgrad.concrete import ConcreteFunction
from graphgrad.eager import array_of
from graphgrad.function import _switches, functions_run_eagerly
from graphgrad.matching import Slot, result_builder
from graphgrad.runtime import blas, threads
from graphgrad.runtime.entry import (
    BUILT,
    LIST,
    SINGLE,
    TUPLE,
    ArgumentCode,
    CaptureCode,
    Entry,
    Form,
    Forms,
    Parameter,
    Results,
    Roles,
    load,
)
from graphgrad.signature import Identity, MethodIdentity, is_tensor_leaf, leaf_key
from graphgrad.tensor import Array, EagerTensor
from graphgrad.variable import Variable

RELEASE_SECONDS = 20e-6  # of a run: releasing the GIL costs less than a hundredth of it
_FORMS = 32  # of one function: passing one by takes some nanoseconds
_COMPARED = (int, str, bytes, complex)  # by value: comparing these runs no code of the user's
_KEYS = (int, str, bytes)
_loading = threading.Lock()


class Unfit(Exception):
    """The entry cannot make calls of this trace."""


def entry(cls: type) -> Entry | None:
    """The entry, from now on the `__call__` of the functions' class; None where it cannot be."""
    with _loading:
        return _entry(cls)


@functools.cache
def _entry(cls: type) -> Entry | None:
    roles = Roles((EagerTensor, "array"), (Variable, "_value"), (cls, "_forms"), state)
    found, _ = load(roles)
    if found is not None:
        found.switch(not functions_run_eagerly())
        _switches.append(found.switch)
        found.install(cls, cls.__dict__["__call__"])
    return found


def run_and_prepare(f: Any, trace: ConcreteFunction, arrays: list[Array]) -> Any:
    """Run `trace` of the function `f`; calls with arguments like these will be native."""
    sizes = _open_sizes(trace, arrays)
    if trace.form is not None and not trace.form.wants(sizes):
        trace.may_go_native = not trace.form.full
        return trace.run(arrays)
    compiled = trace.runner.executable is not None
    begin = time.perf_counter()
    result = trace.run(arrays)  # which appends the captured arrays
    seconds = time.perf_counter() - begin if compiled else math.inf
    if f._lock.acquire(blocking=False):  # else another call will do
        try:
            _prepare(f, trace, sizes, arrays, _release(trace, seconds))
        finally:
            f._lock.release()
    return result


def _prepare(
    f: Any, trace: ConcreteFunction, sizes: tuple[int, ...], arrays: list[Array], release: bool
) -> None:
    try:
        form = trace.form or _form(f, trace)
    except Unfit:
        trace.may_go_native = False
        return
    if trace.form is None:
        trace.form = form
        threads.watch(trace)  # plans are for a number of threads
    trace.may_go_native = bool(sizes)  # of more plans
    if form.wants(sizes) and form.add_plan(sizes, trace.runner.executable, arrays, release):
        arrange(f, trace)
    if form.wants(sizes):  # the number of threads has changed meanwhile
        trace.may_go_native = True


def arrange(f: Any, first: ConcreteFunction | None = None) -> None:
    """Have native calls of the function `f` try the trace `first`, then its other ones."""
    traces = [] if first is None else [first]
    traces += [t for t in reversed(f._all) if t.form is not None and t is not first]
    f._forms = Forms([t.form for t in traces[:_FORMS]])


def _open_sizes(trace: ConcreteFunction, arrays: list[Array]) -> tuple[int, ...]:
    return tuple(
        n for x, t in zip(arrays, trace.types)
        for n, m in zip(x.shape, t.shape) if not isinstance(m, int)
    )  # fmt: skip


def _release(trace: ConcreteFunction, seconds: float) -> bool:
    """Should other threads run Python meanwhile? They must if a run can take any time, and if it
    calls back into Python."""
    return (
        seconds > RELEASE_SECONDS
        or any(isinstance(node.op, Control) for node in trace.graph.nodes)
        or blas.blas_kind() == "callback"
    )


def _form(f: Any, trace: ConcreteFunction) -> Form:
    results = _results(trace)
    code = _arguments(f._signature.signature, trace)
    return Form(code, _captures(trace), results, trace.check, trace._locks)


def _arguments(signature: inspect.Signature | None, trace: ConcreteFunction) -> ArgumentCode:
    args, kwargs = trace.arguments.args, trace.arguments.kwargs
    if not all(type(k) is str for k in kwargs):
        raise Unfit
    keys = _keys(kwargs)
    values = [*args, *(kwargs[k] for k in keys)]
    code = ArgumentCode([*_named(signature, len(args)), *_keyword_only(signature, keys)], len(args))
    types = iter(trace.types)
    for register, x in enumerate(values):
        _argument(code, register, x, types)
    code.words.append(0)
    return code


def _named(signature: inspect.Signature | None, count: int) -> list[Parameter]:
    """The parameters of the first `count` arguments."""
    found = []
    for p in signature.parameters.values() if signature else ():
        if p.kind is p.POSITIONAL_OR_KEYWORD:
            found.append(_parameter(p.name, p))
        elif p.kind is p.POSITIONAL_ONLY:
            found.append(_parameter(None, p))
    found += [Parameter(None)] * (count - len(found))  # of *args
    return found[:count]


def _keyword_only(signature: inspect.Signature | None, keys: list[str]) -> list[Parameter]:
    known = signature.parameters if signature else {}
    return [
        _parameter(k, known[k])
        if k in known and known[k].kind is inspect.Parameter.KEYWORD_ONLY
        else Parameter(k)
        for k in keys
    ]


def _parameter(name: str | None, p: inspect.Parameter) -> Parameter:
    if p.default is p.empty:
        return Parameter(name)
    return Parameter(name, p.default, has_default=True)


def _argument(code: ArgumentCode, register: int, x: Any, types: Any) -> None:
    if is_tensor_leaf(x):
        t = next(types)
        code.tensor(register, t.dtype.dtype, [n if isinstance(n, int) else None for n in t.shape])
    elif not nest.is_nest(x):
        _plain_argument(code, register, x)
    elif type(x) is tuple or type(x) is list:
        first = code.sequence(register, type(x), len(x))
        for i, part in enumerate(x):
            _argument(code, first + i, part, types)
    elif type(x) is dict and all(type(k) in _KEYS for k in x):
        keys = _keys(x)
        first = code.dictionary(register, keys)
        for i, k in enumerate(keys):
            _argument(code, first + i, x[k], types)
    else:
        raise Unfit


def _keys(x: dict[Any, Any]) -> list[Any]:
    """The keys in the order in which `nest` flattens."""
    steps = [step for step, _ in nest.children(x)]
    return sorted(x, key=lambda k: steps.index(f"[{k!r}]"))


def _plain_argument(code: ArgumentCode, register: int, x: Any) -> None:
    key = leaf_key(x)
    if isinstance(key, MethodIdentity):  # a new object at each access
        raise Unfit
    if isinstance(key, Identity):
        code.reference(register, key.ref)
    elif key[0] is float:
        code.float(register, key[1])
    elif key[0] is complex:  # == does not tell signs of zeros apart
        raise Unfit
    else:
        code.same(register, x, compare=type(x) in _COMPARED)


def _captures(trace: ConcreteFunction) -> CaptureCode:
    code = CaptureCode()
    for source, value in zip(trace._sources, trace.graph.params[trace.parameters :]):
        shape = [n for n in value.type.shape if isinstance(n, int)]
        if len(shape) < len(value.type.shape):
            raise Unfit
        if isinstance(source, EagerTensor):
            code.array(array_of(source))
        elif isinstance(source, Variable):
            code.variable(source, value.type.dtype.dtype, shape)
        elif isinstance(source, np.ndarray):
            if not source.flags.c_contiguous:  # it is copied at each call
                raise Unfit
            code.array(source)
        else:
            code.getter(source, value.type.dtype.dtype, shape)
    code.words.append(0)
    return code


def _results(trace: ConcreteFunction) -> Results:
    if any(v._shape is not None for v in trace.writes):
        raise Unfit
    template = trace.structured_outputs_template
    kind, builder = BUILT, result_builder(template, tensors=True)
    if isinstance(template, Slot):
        kind = SINGLE
    elif type(template) in (tuple, list) and all(isinstance(x, Slot) for x in template):
        kind = TUPLE if type(template) is tuple else LIST
    sources = [
        next((trace.parameters + j for j, x in enumerate(trace.captures) if x is v), -1)
        for v in trace.writes
    ]
    return Results(trace._returned, kind, builder, trace.writes, sources)
