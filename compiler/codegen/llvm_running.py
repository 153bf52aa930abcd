"""Running folds as LLVM functions: each element of the result from the one before.

    define internal i32 @k_running_add_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of the inputs and of the result, then size and inner:

    for o in range(lo, hi):
        for t in range(size):
            i = t, or size - 1 - t if reversed
            for w in range(inner): z[o, i, w] = fold(z[o, i before, w], x[o, i, w])

Where the elements of a fold lie one behind the other the last one stays in a register; else vectors
of columns are read where the step before has written them.
"""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_scalar import ModuleParts, llvm_type
from graphgrad.compiler.kernels.running import Running

VECTOR_BYTES = 32  # of columns at a time


def running_text(r: Running, parts: ModuleParts) -> str:
    """The function @KERNEL; `parts` get what it calls."""
    if r.fold == "logaddexp":
        ending = "f" if r.dtype.bits == 32 else ""
        t = llvm_type(r.dtype)
        parts.declares |= {f"declare {t} @{name}{ending}({t})" for name in ("exp", "log1p")}
        parts.functions[f"logaddexp_{t}"] = _LOGADDEXP.format(T=t, f=ending, log2=_LOG2[t])
    body = _in_a_register(r) if r.in_rows else _in_memory(r)
    pointers = ("a", "x", "z") if r.fold == "recurrence" else ("x", "z")
    lines = [
        "define internal i32 @KERNEL(ptr %status, i64 %lo, i64 %hi, ptr %args) nounwind {",
        "entry:",
    ]
    for i, name in enumerate(pointers):
        lines.append(f"  %at_{name} = getelementptr ptr, ptr %args, i64 {i}")
        lines.append(f"  %all_{name} = load ptr, ptr %at_{name}")
    for i, name in enumerate(("size", "inner"), len(pointers)):
        lines.append(f"  %at_{name} = getelementptr i64, ptr %args, i64 {i}")
        lines.append(f"  %{name} = load i64, ptr %at_{name}")
    t = llvm_type(r.dtype)
    last = "  %last = sub i64 %size, 1"
    return "\n".join([
        *lines,
        "  %each = mul i64 %size, %inner",
        *([last, "  %first = mul i64 %last, %inner", "  %step = sub i64 0, %inner"] if r.reverse
          else ["  %first = add i64 0, 0", "  %step = add i64 %inner, 0"]),
        "  br label %outer",
        "outer:",
        "  %o = phi i64 [ %lo, %entry ], [ %next_o, %end ]",
        "  %more_o = icmp slt i64 %o, %hi",
        "  br i1 %more_o, label %begin, label %done",
        "begin:",
        "  %ahead = mul i64 %o, %each",
        "  %start = add i64 %ahead, %first",
        *(f"  %{p} = getelementptr {t}, ptr %all_{p}, i64 %start" for p in pointers),
        *body,
        "end:",
        "  %next_o = add nsw i64 %o, 1",
        "  br label %outer",
        "done:",
        "  ret i32 0",
        "}",
    ])  # fmt: skip


def _in_a_register(r: Running) -> list[str]:
    """The steps of one fold over neighbours."""
    t = llvm_type(r.dtype)
    given = ("a", "x") if r.fold == "recurrence" else ("x",)
    zero = "0.0" if r.dtype.is_floating else "0"
    result = f"  %z_t = freeze {t} %now_t"
    if r.exclusive:  # a sum begins with -0.0, to which every number adds as it is
        result = f"  %z_t = select i1 %is_first, {t} {zero}, {t} %last_t"
    return [
        "  br label %head",
        "head:",
        "  %t = phi i64 [ 0, %begin ], [ %next_t, %body ]",
        "  %at = phi i64 [ 0, %begin ], [ %next_at, %body ]",
        f"  %last_t = phi {t} [ {_identity(r)}, %begin ], [ %now_t, %body ]",
        "  %more_t = icmp slt i64 %t, %size",
        "  br i1 %more_t, label %body, label %end",
        "body:",
        "  %is_first = icmp eq i64 %t, 0",
        *_loads(given, "t", t, "%at", r.dtype.itemsize),
        *_folded(r, "t", t),
        *_first(r, t),
        result,
        f"  %to = getelementptr {t}, ptr %z, i64 %at",
        f"  store {t} %z_t, ptr %to, align {r.dtype.itemsize}",
        "  %next_t = add nsw i64 %t, 1",
        "  %next_at = add i64 %at, %step",
        "  br label %head",
    ]


def _first(r: Running, t: str) -> list[str]:
    """%now_t: a recurrence or a sum of exponentials begins with its first term alone."""
    if r.fold in ("recurrence", "logaddexp"):
        return [f"  %now_t = select i1 %is_first, {t} %x_t, {t} %fold_t"]
    return [f"  %now_t = freeze {t} %fold_t"]


def _in_memory(r: Running) -> list[str]:
    """The rows of one fold: the first is zeros or a copy, each other one is made of the row before
    and its own (or the one before, if exclusive)."""
    t, size = llvm_type(r.dtype), r.dtype.itemsize
    zero = "0.0" if r.dtype.is_floating else "0"
    lanes = 1 if r.fold == "logaddexp" else VECTOR_BYTES // size
    vector = f"<{lanes} x {t}>" if lanes > 1 else t
    given = ("a", "x") if r.fold == "recurrence" else ("x",)
    back = "  %here = sub i64 %at, %step" if r.exclusive else "  %here = add i64 %at, 0"

    def sweep(kind: str, tag: str, type_: str, step: int, start: str, end: str,
              before: str, after: str) -> list[str]:  # fmt: skip
        one = type_ == t
        splat = zero if one else "zeroinitializer"
        lines = [
            f"  br label %{tag}_head",
            f"{tag}_head:",
            f"  %w_{tag} = phi i64 [ {start}, %{before} ], [ %next_{tag}, %{tag}_body ]",
            f"  %more_{tag} = icmp slt i64 %w_{tag}, {end}",
            f"  br i1 %more_{tag}, label %{tag}_body, label %{after}",
            f"{tag}_body:",
            f"  %to_at_{tag} = add i64 %at, %w_{tag}",
            f"  %to_{tag} = getelementptr {t}, ptr %z, i64 %to_at_{tag}",
        ]
        if kind == "zeros":
            lines.append(f"  %now_{tag} = freeze {type_} {splat}")
        else:
            lines.append(f"  %from_at_{tag} = add i64 %here, %w_{tag}")
            lines += _loads(
                given if kind == "fold" else ("x",), tag, type_, f"%from_at_{tag}", size, t
            )
        if kind == "copy":
            lines.append(f"  %now_{tag} = freeze {type_} %x_{tag}")
        if kind == "fold":
            lines += [
                f"  %before_at_{tag} = sub i64 %to_at_{tag}, %step",
                f"  %before_{tag} = getelementptr {t}, ptr %z, i64 %before_at_{tag}",
                f"  %last_{tag} = load {type_}, ptr %before_{tag}, align {size}",
                *_folded(r, tag, type_),
                f"  %now_{tag} = freeze {type_} %fold_{tag}",
            ]
        return [
            *lines,
            f"  store {type_} %now_{tag}, ptr %to_{tag}, align {size}",
            f"  %next_{tag} = add nsw i64 %w_{tag}, {step}",
            f"  br label %{tag}_head",
        ]

    def row(kind: str) -> list[str]:
        return [
            f"{kind}:",
            *sweep(kind, f"{kind}_v", vector, lanes, "0", "%whole", kind, f"{kind}_rest"),
            f"{kind}_rest:",
            *sweep(kind, f"{kind}_t", t, 1, "%whole", "%inner", f"{kind}_rest", "next"),
        ]

    copied = 1 if r.exclusive else 0
    return [
        f"  %whole = and i64 %inner, {-lanes}",
        "  br label %head",
        "head:",
        "  %t = phi i64 [ 0, %begin ], [ %next_t, %next ]",
        "  %at = phi i64 [ 0, %begin ], [ %next_at, %next ]",
        "  %more_t = icmp slt i64 %t, %size",
        "  br i1 %more_t, label %choose, label %end",
        "choose:",
        back,
        f"  %is_copied = icmp eq i64 %t, {copied}",
        f"  br i1 %is_copied, label %copy, label %{'other' if r.exclusive else 'fold'}",
        *row("copy"),
        *(("other:", "  %is_first = icmp eq i64 %t, 0",
           "  br i1 %is_first, label %zeros, label %fold", *row("zeros")) if r.exclusive else ()),
        *row("fold"),
        "next:",
        "  %next_t = add nsw i64 %t, 1",
        "  %next_at = add i64 %at, %step",
        "  br label %head",
    ]  # fmt: skip


def _loads(
    names: tuple[str, ...], tag: str, type_: str, at: str, align: int, element: str = ""
) -> list[str]:
    lines = []
    for name in names:
        lines.append(
            f"  %at_{name}_{tag} = getelementptr {element or type_}, ptr %{name}, i64 {at}"
        )
        lines.append(f"  %{name}_{tag} = load {type_}, ptr %at_{name}_{tag}, align {align}")
    return lines


def _identity(r: Running) -> str:
    """What changes no element that it is folded with."""
    bits = r.dtype.bits
    if r.fold in ("max", "min") and r.dtype.is_integer:
        least = 0 if r.dtype.kind == "u" else -(1 << (bits - 1))
        most = (1 << bits) - 1 if r.dtype.kind == "u" else (1 << (bits - 1)) - 1
        return str(least if r.fold == "max" else most)
    lowest, highest = "0xFFF0000000000000", "0x7FF0000000000000"
    if r.dtype.is_integer:
        return "0"
    return {"max": lowest, "min": highest, "logaddexp": lowest}.get(r.fold, "-0.0")


def _folded(r: Running, tag: str, type_: str) -> list[str]:
    """%fold of %last and %x. NaN is the extreme of what it is compared with."""
    z, last, x = f"%fold_{tag}", f"%last_{tag}", f"%x_{tag}"
    floating = r.dtype.is_floating
    f = "f" if floating else ""
    if r.fold == "add":
        return [f"  {z} = {f}add {type_} {last}, {x}"]
    if r.fold == "recurrence":
        return [
            f"  %product_{tag} = {f}mul {type_} %a_{tag}, {last}",
            f"  {z} = {f}add {type_} %product_{tag}, {x}",
        ]
    if r.fold == "logaddexp":
        return [f"  {z} = call {type_} @logaddexp_{type_}({type_} {last}, {type_} {x})"]
    sign = "g" if r.fold == "max" else "l"
    flags = f"{type_.split(' x ')[0]} x i1>" if type_.startswith("<") else "i1"
    if not floating:
        kind = "s" if r.dtype.kind == "i" else "u"
        compare = [f"  %keep_{tag} = icmp {kind}{sign}e {type_} {last}, {x}"]
    else:
        compare = [
            f"  %beyond_{tag} = fcmp o{sign}t {type_} {last}, {x}",
            f"  %nan_{tag} = fcmp uno {type_} {last}, {last}",
            f"  %keep_{tag} = or {flags} %beyond_{tag}, %nan_{tag}",
        ]
    return [*compare, f"  {z} = select {flags} %keep_{tag}, {type_} {last}, {type_} {x}"]


_LOG2 = {"double": "0x3FE62E42FEFA39EF", "float": "0x3FE62E4300000000"}

# As NumPy's: log(exp(x) + exp(y)), also of equal infinities.
_LOGADDEXP = """
define internal {T} @logaddexp_{T}({T} %x, {T} %y) nounwind {{
  %equal = fcmp oeq {T} %x, %y
  br i1 %equal, label %same, label %differ
same:
  %twice = fadd {T} %x, {log2}
  ret {T} %twice
differ:
  %d = fsub {T} %x, %y
  %above = fcmp ogt {T} %d, 0.0
  br i1 %above, label %first, label %other
first:
  %down = fneg {T} %d
  %e1 = call {T} @exp{f}({T} %down)
  %l1 = call {T} @log1p{f}({T} %e1)
  %r1 = fadd {T} %x, %l1
  ret {T} %r1
other:
  %e2 = call {T} @exp{f}({T} %d)
  %l2 = call {T} @log1p{f}({T} %e2)
  %r2 = fadd {T} %y, %l2
  ret {T} %r2
}}
"""
