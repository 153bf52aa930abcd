"""How fast graphgrad is, beside JAX and PyTorch: `python -m benchmarks --help`.

A workload is written once (`workloads.py`) in a small vocabulary that each framework supplies
(`frameworks/`). Every framework runs in processes of its own (`child.py`), on one core, in turns
(`measure.py`), and every result is checked against NumPy in float64.
"""
