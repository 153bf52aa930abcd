"""All programs in all modes, or those named: python -m tests.graphgrad.loop_programs [NAME ...]"""

from __future__ import annotations

import sys
import time
import warnings

from tests.graphgrad.loop_programs.modes import (
    FIRST,
    SECOND,
    VALUES,
    check,
    compiled,
    fits,
    gradient,
)
from tests.graphgrad.loop_programs.tables import PROGRAMS

warnings.simplefilter("ignore")
failures = 0
for name in sys.argv[1:] or PROGRAMS:
    p, start = PROGRAMS[name], time.perf_counter()
    modes = (compiled, *VALUES, *([gradient] if p.order else []), *FIRST, *SECOND)
    for mode in (m for m in modes if fits(p, m)):
        try:
            check(p, mode)
        except Exception as error:  # it goes on with the others
            failures += 1
            print(f"  {name}, {mode.__name__}: {type(error).__name__}: {error}"[:600])
    print(f"{name} {time.perf_counter() - start:.1f} s", flush=True)
sys.exit(failures > 0)
