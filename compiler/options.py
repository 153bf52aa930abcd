"""What a user may choose about compilation."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """How a graph is compiled; part of what names its Program on disk."""

    compile: bool = True  # False: interpret op by op
    fast_math: bool = False
    flush_denormals: bool = False  # subnormal numbers are zero, as operands and as results
