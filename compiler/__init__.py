"""Graphs to Programs: ops, IR, differentiation, passes, fusion and code generation."""

if __name__ != "graphgrad.compiler":
    raise ImportError("import graphgrad.compiler, not compiler: it would register every op twice")
