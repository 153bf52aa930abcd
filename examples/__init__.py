"""Programs that use graphgrad: `python -m examples.digits`."""
