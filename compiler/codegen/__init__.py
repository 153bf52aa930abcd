"""Text for targets: LLVM IR, and Python for people."""
