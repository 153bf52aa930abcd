"""Donated arguments: results may take their memory, and they are used up by the call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad import nest
from graphgrad.compiler.errors import ArgumentError, DonatedTensorError
from graphgrad.compiler.source import here
from graphgrad.signature import Arguments, Signature, is_tensor_leaf
from graphgrad.tensor import Array, EagerTensor


class DonatedTensor(EagerTensor):
    """A tensor whose memory was given to a call: every use is an error. `origin` says whose."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name != "array":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        function, where = self.origin
        place = f" in {where.describe()}" if where is not None else ""
        raise DonatedTensorError(
            f"the tensor was donated to `{function}`{place}: a result may lie in its memory. Use "
            "the result in its place, or do not donate it", here()
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<gg.Tensor: donated to `{self.origin[0]}`>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


def positions(donate_argnums: int | Sequence[int], signature: Signature) -> tuple[int, ...]:
    """The positions of the donated arguments, checked."""
    found = (donate_argnums,) if isinstance(donate_argnums, int) else tuple(donate_argnums)
    count = signature.positional
    for i in found:
        if not isinstance(i, int) or not 0 <= i < count:
            raise ArgumentError(
                f"gg.function: donate_argnums has {i!r}, and `{signature.name}` takes "
                f"{count} positional arguments", here()
            )  # fmt: skip
    return found


def offered(arguments: Arguments, donated: tuple[int, ...]) -> tuple[bool, ...]:
    """For each tensor of a call, whether it is donated."""
    parts = [(x, i in donated) for i, x in enumerate(arguments.args)]
    parts += [(arguments.kwargs, False)]
    return tuple(d for part, d in parts for x in nest.flatten(part) if is_tensor_leaf(x))


def run_donating(
    run: Callable[[list[Array]], Any],
    tensors: list[EagerTensor],
    arrays: list[Array],
    offers: tuple[bool, ...],
    name: str,
) -> Any:
    """`run(arrays)` with the offered tensors used up; they are as before if it fails.

    A result takes the memory of one if the list has its only reference, so not where a NumPy view
    or another tensor holds it.
    """
    given = [(x, i) for i, (x, offer) in enumerate(zip(tensors, offers)) if offer]
    where = here()
    for x, _ in given:
        if type(x) is not DonatedTensor:  # given twice in one call
            x.__class__ = DonatedTensor
            x.origin = name, where  # type: ignore[attr-defined]
            del x.array
    try:
        return run(arrays)
    except BaseException:
        for x, i in given:
            x.array = arrays[i]
            x.__class__ = EagerTensor
        raise
