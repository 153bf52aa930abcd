"""Graphs to graphs: derivatives, batches, and graphs inside graphs."""
