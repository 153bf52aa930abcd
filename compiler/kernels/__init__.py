"""Graphs to loop nests: which nodes become one kernel, and what the kernel computes."""
