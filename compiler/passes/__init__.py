"""Rewrites of graphs: rules as data, and the passes that apply them."""
