"""How fast graphgrad is, beside others: `python -m benchmarks --help`.

A workload is written once (`workloads/`) in a small vocabulary that each framework supplies
(`frameworks/`). Every framework runs in processes of its own (`child.py`), on one core or two, in
turns (`measure.py`), and every result is checked against NumPy in float64 (`data.py`). What comes
out (`figures.py`) becomes tables (`report.py`) and a picture (`plot.py`).

`python -m benchmarks.sweep` looks for sizes at which graphgrad is unexpectedly slow, and
`python -m benchmarks.loops` has programs with loops beside Numba.
"""
