"""What the kernel of a convolution computes, as Python that runs: for people, and for tests.

The kernels themselves go through the same products in another order (`llvm_convolutions`).
"""

from __future__ import annotations

from graphgrad.compiler.ir import Node

# What each op reads, the filter or the gradient, and what it makes; and one step of its sum.
_FORMS = {
    "conv": ("x, w, y", "y[(n, *o)][{j}] += x[(n, *at)][{i}] @ w[k][:, {j}]"),
    "conv_input_gradient": ("y, w, x", "x[(n, *at)][{i}] += w[k][:, {j}] @ y[(n, *o)][{j}]"),
    "conv_filter_gradient": (
        "x, y, w", "w[k][:, {j}] += np.outer(x[(n, *at)][{i}], y[(n, *o)][{j}])"
    ),
}  # fmt: skip


def python_convolution(node: Node, name: str) -> str:
    """The function of a convolution: of its two inputs and the array that it fills.

    At place o of y, tap k reads x at o * strides + k * dilations - low, unless that is padding.
    """
    arguments, step = _FORMS[node.op.name]
    made = arguments[-1]
    strides, dilations, groups = (node.attrs[k] for k in ("strides", "dilations", "groups"))
    low = tuple(lo for lo, _ in node.attrs["padding"])
    lines = [
        f"def {name}({arguments}):",
        f"    {made}[...] = 0",
        "    for n in range(len(x)):",
        "        for o in np.ndindex(*y.shape[1:-1]):",
        "            for k in np.ndindex(*w.shape[:-2]):",
        f"                at = np.multiply(o, {strides}) + np.multiply(k, {dilations}) - {low}",
        "                if any(at < 0) or any(at >= x.shape[1:-1]):",
        "                    continue",
    ]
    if groups == 1:
        lines.append(f"                {step.format(i=':', j=':')}")
    else:
        lines += [
            f"                for g in range({groups}):",
            f"                    own = np.arange(x.shape[-1]).reshape({groups}, -1)[g]",
            f"                    out = np.arange(y.shape[-1]).reshape({groups}, -1)[g]",
            f"                    {step.format(i='own', j='out')}",
        ]
    return "\n".join([*lines, ""])
