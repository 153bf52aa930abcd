"""Programs with loops, beside Numba: `python -m benchmarks.loops --help`.

Eight programs are written as a user writes them, with Python's loops on float64, and differentiated
(`newton.py` and the others of `program.PROGRAMS`). Beside each stands its value and gradient by
hand, forward and reverse, for Numba. Three loops of scalars (`scalars.py`) are compiled by both
from the same source. `jax_scans.py` has what JAX can express. `measure.py` takes the times.
"""
