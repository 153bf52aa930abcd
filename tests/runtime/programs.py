"""Hand-written Programs for the tests of the runtime."""

from __future__ import annotations

from typing import Any

from graphgrad.runtime.program import Failure, Host, Native, Program, Size, Slot, Temp

N = ("dim", 0, 0)


def loop(
    name: str,
    body: str,
    x: int,
    y: int,
    n: int,
    *,
    type: str = "float",
    x_offset: int = 0,
    y_offset: int = 0,
) -> str:
    """A step that sets %z from %v (and %i) for each element: word `y` of the table from word `x`.

    `n` is the word that holds the number of elements; offsets are in bytes.
    """
    return f"""
define i32 @{name}(ptr %status, ptr %table) {{
entry:
  %xw = getelementptr ptr, ptr %table, i64 {x}
  %x0 = load ptr, ptr %xw
  %x = getelementptr i8, ptr %x0, i64 {x_offset}
  %yw = getelementptr ptr, ptr %table, i64 {y}
  %y0 = load ptr, ptr %yw
  %y = getelementptr i8, ptr %y0, i64 {y_offset}
  %nw = getelementptr i64, ptr %table, i64 {n}
  %n = load i64, ptr %nw
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %next, label %done
next:
  %i = phi i64 [ 0, %entry ], [ %j, %next ]
  %xp = getelementptr {type}, ptr %x, i64 %i
  %v = load {type}, ptr %xp
  {body}
  %yp = getelementptr {type}, ptr %y, i64 %i
  store {type} %z, ptr %yp
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %next, label %done
done:
  ret i32 0
}}
"""


ADD_ONE = "%z = fadd float %v, 1.0"


def elementwise(
    body: str = ADD_ONE, size: Size = N, donations: tuple[tuple[int, int], ...] = ()
) -> Program:
    """One input, one output, both f32[size]."""
    return Program(
        fingerprint="elementwise",
        module=loop("step", body, 0, 1, 3),
        slots=(Slot("input", "float32", (size,)), Slot("output", "float32", (size,))),
        inputs=(0,),
        outputs=(1,),
        steps=(Native("step"),),
        sizes=(size,),
        donations=donations,
    )


def through_host(function: Any) -> Program:
    """Temporary = x + 1; host slot = function(x, temporary); output = host + 1."""
    return Program(
        fingerprint="through_host",
        module=loop("before", ADD_ONE, 0, 3, 4, y_offset=64) + loop("after", ADD_ONE, 1, 2, 4),
        slots=tuple(Slot(kind, "float32", (N,)) for kind in ("input", "host", "output")),
        inputs=(0,),
        outputs=(2, 1),
        steps=(Native("before"), Host(0, (0, -1), (1,)), Native("after")),
        temps=(Temp("float32", (N,), 64),),
        arena_bytes=("+", 64, ("up", ("*", N, 4), 64)),
        sizes=(N,),
        callables=(function,),
    )


REFUSES_NEGATIVE = """
define i32 @step(ptr %status, ptr %table) {
  %x = load ptr, ptr %table
  %v = load i64, ptr %x
  %bad = icmp slt i64 %v, 0
  br i1 %bad, label %fail, label %good
fail:
  %w0 = getelementptr i64, ptr %status, i64 0
  store i64 1, ptr %w0
  %w1 = getelementptr i64, ptr %status, i64 1
  store i64 7, ptr %w1
  %w2 = getelementptr i64, ptr %status, i64 2
  store i64 %v, ptr %w2
  ret i32 1
good:
  %yw = getelementptr ptr, ptr %table, i64 1
  %y = load ptr, ptr %yw
  store i64 %v, ptr %y
  ret i32 0
}
"""


def refuses_negative(donations: tuple[tuple[int, int], ...] = ()) -> Program:
    """The identity of an i64 scalar, which fails where it is negative."""
    return Program(
        fingerprint="refuses",
        module=REFUSES_NEGATIVE,
        slots=(Slot("input", "int64", ()), Slot("output", "int64", ())),
        inputs=(0,),
        outputs=(1,),
        steps=(Native("step"),),
        donations=donations,
        failures=(
            Failure("OtherError", "other", "nowhere"),
            Failure("InvalidArgumentError", "element {index} is {a}", "train.py:3"),
        ),
    )


GEMM = """
define i32 @step(ptr %status, ptr %table) {
  %a = load ptr, ptr %table
  %bw = getelementptr ptr, ptr %table, i64 1
  %b = load ptr, ptr %bw
  %cw = getelementptr ptr, ptr %table, i64 2
  %c = load ptr, ptr %cw
  %mw = getelementptr i64, ptr %table, i64 4
  %m = load i64, ptr %mw
  %fw = getelementptr ptr, ptr %table, i64 5
  %f = load ptr, ptr %fw
  call void %f(i32 101, i32 111, i32 111, i64 %m, i64 4, i64 3, float 1.0, ptr %a, i64 3,
               ptr %b, i64 4, float 0.0, ptr %c, i64 4)
  ret i32 0
}
"""


def gemm() -> Program:
    """The product of f32[m, 3] and f32[3, 4] by a BLAS with 64-bit integers."""
    return Program(
        fingerprint="gemm",
        module=GEMM,
        slots=(
            Slot("input", "float32", (N, 3)),
            Slot("input", "float32", (3, 4)),
            Slot("output", "float32", (N, 4)),
        ),
        inputs=(0, 1),
        outputs=(2,),
        steps=(Native("step"),),
        sizes=(N,),
        routines=("sgemm",),
    )
