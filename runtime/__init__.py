"""Runs Programs: buffers, engines, caches, BLAS and the executor."""

if __name__ != "graphgrad.runtime":
    raise ImportError("import graphgrad.runtime, not runtime: it would have caches of its own")
