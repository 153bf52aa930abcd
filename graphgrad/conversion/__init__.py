"""Python's control flow on tensors: from source to functions that call operators, and these."""
