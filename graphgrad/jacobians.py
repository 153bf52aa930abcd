"""Matrices of derivatives as functions of functions: jacrev, jacfwd, hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad import nest
from graphgrad.batching import vmap
from graphgrad.compiler.errors import DTypeError
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.source import here
from graphgrad.tape import GradientTape
from graphgrad.tape_arguments import in_form_of
from graphgrad.tape_jacobians import blocks, joined, unit_rows
from graphgrad.transforms import differentiated, linearized
from graphgrad.wrapping import wraps

BLOCK_BYTES = 1 << 26  # of the unit matrix, where no chunk_size is given


def jacrev(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The Jacobian of `f` by reverse mode: good where results are few.

    For a result y and an argument x it is y.shape + x.shape. Both may be structures: the structure
    of the result holds, in the place of each tensor, that of the argument (a tuple of them if
    `argnums` are several). `chunk_size` rows are computed at once; None chooses by size. With
    `has_aux`, `f` returns (result, aux), and the Jacobian comes as (jacobian, aux).

    >>> import graphgrad as gg
    >>> gg.jacrev(lambda x: x * x)(gg.constant([1.0, 2.0])).numpy()
    array([[2., 0.],
           [0., 4.]], dtype=float32)
    """

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        lifted, sources = differentiated("jacrev", args, argnums)
        with GradientTape(persistent=True) as tape:
            tape.watch(sources)
            value = f(*lifted, **kwargs)
        result, aux = value if has_aux else (value, None)

        def rows(y: Any) -> Any:
            y = _floating("jacrev", y)
            if y.type.shape == ():
                found = tape.gradient(y, sources, unconnected_gradients="zero")
            else:
                at_once = chunk_size or _fitting_block(y.type.size, y.dtype)
                found = tape.jacobian(y, sources, "zero", parallel_iterations=at_once)
            return found[0] if isinstance(argnums, int) else tuple(found)

        jacobian = _each(rows, result)
        return (jacobian, aux) if has_aux else jacobian

    return call


def jacfwd(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The Jacobian of `f` by forward mode: good where arguments are few. See `jacrev`.

    >>> import graphgrad as gg
    >>> gg.jacfwd(lambda x: {"square": x * x, "sum": x + 1.0})(3.0)["square"].numpy()
    np.float32(6.0)
    """

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        lifted, sources = differentiated("jacfwd", args, argnums)
        kind, kept = current_kind(), []
        values = _each(kind.lift, sources)
        flat = nest.flatten(values)
        leaves = [x for x in flat if x is not None]

        def function(*xs: Any) -> Any:
            value = f(*xs, **kwargs)
            if has_aux:
                value, aux = value
                kept.append(aux)
            return _each(lambda y: _floating("jacfwd", y), value)

        result, push = linearized(function, lifted, leaves)
        columns = _columns(push, leaves, chunk_size)

        def matrices(y: Any) -> Any:
            found = in_form_of(values, flat, next(columns))
            return found[0] if isinstance(argnums, int) else tuple(found)

        jacobian = _each(matrices, result)
        return (jacobian, kept[0]) if has_aux else jacobian

    return call


def _columns(push: Callable[..., Any], leaves: list[Any], chunk_size: int | None) -> Any:
    """For each result of `push`, its Jacobian by each of the leaves."""
    sizes = [x.type.size for x in leaves]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    count = sum(sizes)
    shapes: list[Any] = []

    def column(*tangents: Any) -> list[Any]:
        found = [t for t in nest.flatten(push(tangents)) if t is not None]
        shapes[:] = [y.type.shape for y in found]
        return found

    at_once = chunk_size or _fitting_block(count, leaves[0].dtype)
    parts = []
    for begin, size in blocks(count, at_once, "chunk_size"):
        units = [
            unit_rows(begin - start, size, n, x.dtype).reshape((size, *x.type.shape))
            for start, n, x in zip(starts, sizes, leaves)
        ]
        parts.append(vmap(column, out_axes=-1)(*units))
    for shape, pieces in zip(shapes, zip(*parts)):
        whole = joined(pieces, -1)
        yield [
            whole[..., start : start + n].reshape((*shape, *x.type.shape))
            for start, n, x in zip(starts, sizes, leaves)
        ]


def hessian(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The second derivatives of `f`: for each pair of tensors among the arguments f(x).shape +
    a.shape + b.shape, the structure of the argument within itself.

    Traced it is forward over reverse; outside of functions reverse over reverse, whose walks are
    kept from call to call. `chunk_size` columns are computed at once: fewer take less memory.

    >>> import graphgrad as gg
    >>> gg.hessian(lambda x: gg.reduce_sum(x**3))(gg.constant([1.0, 2.0])).numpy()
    array([[ 6.,  0.],
           [ 0., 12.]], dtype=float32)
    """
    first = jacrev(f, argnums, has_aux)
    eager, traced = (outer(first, argnums, has_aux, chunk_size) for outer in (jacrev, jacfwd))

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        _, sources = differentiated("hessian", args, argnums)
        dtypes = {x.dtype for x in nest.flatten(sources) if x is not None}
        alone = state.builder is None and not state.recorders
        # Of a mixed block, forward mode gives the one dtype and reverse mode the other.
        return (eager if alone and len(dtypes) == 1 else traced)(*args, **kwargs)

    return call


def _each(function: Callable[[Any], Any], structure: Any) -> Any:
    """`function` of each leaf but None."""
    return nest.map_structure(lambda x: None if x is None else function(x), structure)


def _floating(name: str, y: Any) -> Any:
    y = current_kind().lift(y)
    if not y.dtype.is_inexact:
        raise DTypeError(
            f"{name}: the result holds {y.type}, and only floats have derivatives", here()
        )
    return y


def _fitting_block(count: Any, dtype: Any) -> int | None:
    """So many rows of a unit matrix of `count` rows that they do not take too much memory."""
    if not isinstance(count, int) or count == 0:
        return None
    return max(1, BLOCK_BYTES // (count * dtype.itemsize))
