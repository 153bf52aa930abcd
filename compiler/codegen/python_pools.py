"""What the kernel of a pooling operation computes, as Python that runs: for people, and for tests.

The kernels themselves take several windows or channels at a time (`llvm_pools`).
"""

from __future__ import annotations

import numpy as np

from graphgrad.compiler.ir import Node

_HITS = ["hits = x[at] == x[at].max(0, initial={lowest})"]
# What each operation reads and makes, what it does for each window o of image n, whose elements
# are `at`, and the arrays with elements and with windows.
_FORMS: dict[str, tuple[str, list[str], str, str]] = {
    "max_pool": ("x, z", ["z[(n, *o)] = x[at].max(0, initial={lowest})"], "x", "z"),
    "mean_pool": ("x, z", ["z[(n, *o)] = x[at].sum(0) / max(len(x[at]), 1)"], "x", "z"),
    "max_pool_tangent": (
        "t, x, z",
        [*_HITS, "z[(n, *o)] = np.where(hits, t[at], 0).sum(0) / np.maximum(hits.sum(0), 1)"],
        "x", "z",
    ),
    "max_pool_gradient": (
        "g, x, dx",
        [*_HITS, "dx[at] += np.where(hits, g[(n, *o)] / np.maximum(hits.sum(0), 1), 0)"],
        "dx", "g",
    ),
    "mean_pool_gradient": ("g, dx", ["dx[at] += g[(n, *o)] / max(len(dx[at]), 1)"], "dx", "g"),
}  # fmt: skip


def python_pool(node: Node, name: str) -> str:
    """The function of a pooling operation: of its inputs and the array that it fills.

    Element k of window o is at o * strides + k * dilations - low, unless that is padding.
    """
    arguments, steps, elements, windows = _FORMS[node.op.name]
    window, strides, dilations = (node.attrs[k] for k in ("window", "strides", "dilations"))
    low = tuple(lo for lo, _ in node.attrs["padding"])
    dtype = node.out.type.dtype
    lowest = "-np.inf" if dtype.is_floating else str(np.iinfo(dtype.dtype).min)
    lines = [
        f"def {name}({arguments}):",
        *(["    dx[...] = 0"] if elements == "dx" else []),
        f"    taps = np.multiply(list(np.ndindex({window})), {dilations}) - {low}",
        f"    for n in range(len({elements})):",
        f"        for o in np.ndindex({windows}.shape[1:-1]):",
        f"            places = taps + np.multiply(o, {strides})",
        f"            inside = ((places >= 0) & (places < {elements}.shape[1:-1])).all(1)",
        "            at = (n, *places[inside].T)",
        *("            " + step.format(lowest=lowest) for step in steps),
    ]
    return "\n".join([*lines, ""])
