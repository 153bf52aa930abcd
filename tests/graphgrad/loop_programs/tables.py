"""All tables of programs."""

from __future__ import annotations

from tests.graphgrad.loop_programs.dynamics import DYNAMICS
from tests.graphgrad.loop_programs.learning import LEARNING
from tests.graphgrad.loop_programs.program import Program
from tests.graphgrad.loop_programs.sequences import SEQUENCES
from tests.graphgrad.loop_programs.solvers import SOLVERS

PROGRAMS: dict[str, Program] = {**SOLVERS, **DYNAMICS, **SEQUENCES, **LEARNING}
