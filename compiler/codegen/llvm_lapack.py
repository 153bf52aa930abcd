"""Factorisations and systems as LLVM functions around calls of LAPACK.

    define internal i32 @k_solve_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

lo..hi are matrices of a stack. `args` holds the pointers of the inputs, the outputs and the
scratch, then n, k, the sizes of the stack but the first, the bytes of integers and of all scratch
of a thread, and the routine. LAPACK has matrices column by column: they are copied to the scratch
in that order and in float64, and the results back, as NumPy does, so that pivots and roundings are
the same.
"""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.kernels.factorisations import EIGEN, PLACES, Factorisation
from graphgrad.runtime.program import (
    STATUS_A,
    STATUS_B,
    STATUS_FAILURE,
    STATUS_INDEX,
    STATUS_THREAD,
)

POINTERS = {
    "cholesky": ("x", "out"),
    "solve": ("a", "b", "out"),
    "triangular_solve": ("a", "b", "out"),
    "inv": ("x", "out"),
    "det": ("x", "out"),
    "slogdet": ("x", "sign", "log"),
    "eigh": ("x", "values", "vectors"),
    "eigvalsh": ("x", "values"),
}
WORDS = dict(zip(PLACES, (STATUS_INDEX, STATUS_A, STATUS_B), strict=True))
# CBLAS's names of orders, triangles and sides.
ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, UPPER, LOWER, FULL_DIAGONAL, LEFT = (
    101, 111, 112, 121, 122, 131, 141
)  # fmt: skip

# What LAPACK is told by a letter: the triangle, and whether eigenvectors are wanted.
LETTERS = {"L": "lower", "V": "vectors", "N": "values"}

# to[j, i] = from[i, j], some columns at a time: each is then written in one go.
_TRANSPOSED = """
define internal void @transposed_{A}_{B}(ptr %to, ptr %from, i64 %rows, i64 %columns) nounwind {{
entry:
  br label %block
block:
  %first = phi i64 [ 0, %entry ], [ %last, %end ]
  %more = icmp slt i64 %first, %columns
  %beyond = add i64 %first, 8
  %last = call i64 @llvm.smin.i64(i64 %beyond, i64 %columns)
  br i1 %more, label %row, label %done
row:
  %i = phi i64 [ 0, %block ], [ %i1, %row_end ]
  %in = icmp slt i64 %i, %rows
  br i1 %in, label %cell, label %end
cell:
  %j = phi i64 [ %first, %row ], [ %j1, %cell ]
  %ij0 = mul i64 %i, %columns
  %ij = add i64 %ij0, %j
  %at = getelementptr {A}, ptr %from, i64 %ij
  %x = load {A}, ptr %at{convert}
  %ji0 = mul i64 %j, %rows
  %ji = add i64 %ji0, %i
  %there = getelementptr {B}, ptr %to, i64 %ji
  store {B} {x}, ptr %there
  %j1 = add i64 %j, 1
  %on = icmp slt i64 %j1, %last
  br i1 %on, label %cell, label %row_end
row_end:
  %i1 = add i64 %i, 1
  br label %row
end:
  br label %block
done:
  ret void
}}
"""

# LAPACK's failure says that a pivot is 0, or that a matrix is not positive definite.
_CHECKED = """  %found = load {I}, ptr %info
  %well = icmp eq {I} %found, 0
  br i1 %well, label %factored, label %failed
factored:"""

_BODIES = {
    # Zeros above the diagonal, which LAPACK leaves as it was.
    "cholesky": """
  call void @transposed_{T}_double(ptr %factor, ptr %x, i64 %n, i64 %n)
  call void %routine(ptr @gg.lower, ptr %size_n, ptr %factor, ptr %lda, ptr %info, i64 1)
{checked}
  call void @transposed_double_{T}(ptr %out, ptr %factor, i64 %n, i64 %n)
  br label %row
row:
  %r = phi i64 [ 0, %factored ], [ %r1, %zero ]
  %r1 = add i64 %r, 1
  %rest = sub i64 %n, %r1
  %more = icmp sgt i64 %rest, 0
  br i1 %more, label %zero, label %next
zero:
  %row0 = mul i64 %r, %n
  %beside = add i64 %row0, %r1
  %at_beside = getelementptr {T}, ptr %out, i64 %beside
  %bytes = mul i64 %rest, {size}
  call void @llvm.memset.p0.i64(ptr %at_beside, i8 0, i64 %bytes, i1 false)
  br label %row""",
    "solve": """
{factor_a}
  call void @transposed_{T}_double(ptr %sides, ptr %b, i64 %n, i64 %k)
  call void %routine(ptr %size_n, ptr %size_k, ptr %factor, ptr %lda, ptr %pivots, ptr %sides,
                     ptr %lda, ptr %info)
{checked}
  call void @transposed_double_{T}(ptr %out, ptr %sides, i64 %k, i64 %n)
  br label %next""",
    # The right sides are the unit vectors.
    "inv": """
  call void @transposed_{T}_double(ptr %factor, ptr %x, i64 %n, i64 %n)
  %bytes = mul i64 %matrix, 8
  call void @llvm.memset.p0.i64(ptr %sides, i8 0, i64 %bytes, i1 false)
  br label %diagonal
diagonal:
  %d = phi i64 [ 0, %item ], [ %d1, %one ]
  %more = icmp slt i64 %d, %n
  br i1 %more, label %one, label %unit
one:
  %d1 = add i64 %d, 1
  %row0 = mul i64 %d, %n
  %place = add i64 %row0, %d
  %at_one = getelementptr double, ptr %sides, i64 %place
  store double 1.0, ptr %at_one
  br label %diagonal
unit:
  call void %routine(ptr %size_n, ptr %size_n, ptr %factor, ptr %lda, ptr %pivots, ptr %sides,
                     ptr %lda, ptr %info)
{checked}
  call void @transposed_double_{T}(ptr %out, ptr %sides, i64 %n, i64 %n)
  br label %next""",
    "triangular_solve": """
  %bytes = mul i64 %right, {size}
  call void @llvm.memcpy.p0.p0.i64(ptr %out, ptr %b, i64 %bytes, i1 false)
  br label %diagonal
diagonal:
  %d = phi i64 [ 0, %item ], [ %d1, %regular ]
  %more = icmp slt i64 %d, %n
  br i1 %more, label %look, label %divide
look:
  %row0 = mul i64 %d, %n
  %place = add i64 %row0, %d
  %at_pivot = getelementptr {T}, ptr %a, i64 %place
  %pivot = load {T}, ptr %at_pivot
  %singular = fcmp oeq {T} %pivot, 0.0
  br i1 %singular, label %failed, label %regular
regular:
  %d1 = add i64 %d, 1
  br label %diagonal
divide:
  %some = icmp sgt i64 %right, 0
  br i1 %some, label %call, label %next
call:
  call void %routine(i32 {row_major}, i32 {left}, i32 {triangle}, i32 {flag}, i32 {full},
                     {I} %int_n, {I} %int_k, {T} 1.0, ptr %a, {I} %int_n, ptr %out, {I} %int_k)
  br label %next""",
    # The sign changes with each pivot that is below 0, and with each exchange of rows.
    "slogdet": """
  call void @transposed_{T}_double(ptr %factor, ptr %x, i64 %n, i64 %n)
  call void %routine(ptr %size_n, ptr %size_n, ptr %factor, ptr %lda, ptr %pivots, ptr %info)
  %found = load {I}, ptr %info
  %regular = icmp eq {I} %found, 0
  br i1 %regular, label %diagonal, label %known
diagonal:
  %d = phi i64 [ 0, %item ], [ %d1, %pivot ]
  %s = phi double [ 1.0, %item ], [ %s2, %pivot ]
  %l = phi double [ 0.0, %item ], [ %l1, %pivot ]
  %more = icmp slt i64 %d, %n
  br i1 %more, label %pivot, label %known
pivot:
  %d1 = add i64 %d, 1
  %row0 = mul i64 %d, %n
  %place = add i64 %row0, %d
  %at_pivot = getelementptr double, ptr %factor, i64 %place
  %p = load double, ptr %at_pivot
  %below = fcmp olt double %p, 0.0
  %minus = fneg double %s
  %s1 = select i1 %below, double %minus, double %s
  %at_row = getelementptr {I}, ptr %pivots, i64 %d
  %exchanged = load {I}, ptr %at_row
  %own = {own}
  %stays = icmp eq {I} %exchanged, %own
  %turned = fneg double %s1
  %s2 = select i1 %stays, double %s1, double %turned
  %size = call double @llvm.fabs.f64(double %p)
  %log_p = call double @log(double %size)
  %l1 = fadd double %l, %log_p
  br label %diagonal
known:
  %sign_x = phi double [ 0.0, %item ], [ %s, %diagonal ]
  %log_x = phi double [ 0xFFF0000000000000, %item ], [ %l, %diagonal ]
{results}
  br label %next""",
}
_BODIES["det"] = _BODIES["slogdet"]
# NaN where LAPACK does not get through: with matrices that hold it, or infinities.
_BODIES["eigh"] = _BODIES["eigvalsh"] = """
  call void @transposed_{T}_double(ptr %factor, ptr %x, i64 %n, i64 %n)
  %work = getelementptr double, ptr %sides, i64 %n
  call void %routine(ptr @gg.{job}, ptr @gg.lower, ptr %size_n, ptr %factor, ptr %lda, ptr %sides,
                     ptr %work, ptr %lwork, ptr %pivots, ptr %liwork, ptr %info, i64 1, i64 1)
  %found = load {I}, ptr %info
  %well = icmp eq {I} %found, 0
  br i1 %well, label %factored, label %lost
lost:
  %both = add i64 %matrix, %n
  br label %losing
losing:
  %l = phi i64 [ 0, %lost ], [ %l1, %lose ]
  %more = icmp slt i64 %l, %both
  br i1 %more, label %lose, label %factored
lose:
  %at_lost = getelementptr double, ptr %factor, i64 %l
  store double 0x7FF8000000000000, ptr %at_lost
  %l1 = add i64 %l, 1
  br label %losing
factored:
  call void @transposed_double_{T}(ptr %values, ptr %sides, i64 %n, i64 1)
{vectors}
  br label %next"""
_RESULTS = {
    "slogdet": (("sign_x", "sign"), ("log_x", "log")),
    "det": (("det", "out"),),
}


def lapack_text(f: Factorisation, integer: str, failure: int, parts: ModuleParts) -> str:
    """The function @KERNEL. `integer` is the type of LAPACK's sizes, and `failure` the number of
    the error for a matrix that it refuses; `parts` get what it calls."""
    element = {32: "float", 64: "double"}[f.dtype.bits]
    words = {"T": element, "I": integer, "size": f.dtype.itemsize, "row_major": ROW_MAJOR,
             "left": LEFT, "full": FULL_DIAGONAL, "triangle": LOWER if f.lower else UPPER,
             "flag": TRANSPOSE if f.adjoint else NO_TRANSPOSE}  # fmt: skip
    words["checked"] = _CHECKED.format(**words)
    words["own"] = "add i64 %d, 1" if integer == "i64" else "trunc i64 %d1 to i32"
    words["job"] = "vectors" if f.op == "eigh" else "values"
    words["vectors"] = (
        f"  call void @transposed_double_{element}(ptr %vectors, ptr %factor, i64 %n, i64 %n)"
        if f.op == "eigh"
        else ""
    )
    words["results"] = "\n".join(_results(f.op, element))
    shape = "i64 %matrix, i64 1" if f.adjoint else "i64 %n, i64 %n"  # the first is a copy
    words["factor_a"] = f"  call void @transposed_{element}_double(ptr %factor, ptr %a, {shape})"
    _declare(f, element, parts)
    fails = failure >= 0
    return "\n".join([
        "define internal i32 @KERNEL(ptr %status, i64 %lo, i64 %hi, ptr %args) nounwind {",
        "entry:",
        *_arguments(f),
        *_prepared(integer),
        *(_work_space(integer) if f.op in EIGEN else ()),
        "  br label %head",
        "head:",
        "  %i = phi i64 [ %lo, %entry ], [ %i1, %next ]",
        "  %inside = icmp slt i64 %i, %hi",
        "  br i1 %inside, label %item, label %done",
        "item:",
        *_moved(f, element),
        _BODIES[f.op].format(**words).lstrip("\n"),
        "next:",
        "  %i1 = add i64 %i, 1",
        "  br label %head",
        *(_failed(f, failure) if fails else ()),
        "done:",
        "  ret i32 0",
        "}",
    ])  # fmt: skip


def _results(op: str, element: str) -> list[str]:
    """What stores the numbers of a determinant."""
    lines = []
    if op == "det":
        lines.append("  %size_x = call double @exp(double %log_x)")
        lines.append("  %det = fmul double %sign_x, %size_x")
    for name, place in _RESULTS.get(op, ()):
        if element == "double":
            lines.append(f"  store double %{name}, ptr %{place}")
        else:
            lines.append(f"  %short_{name} = fptrunc double %{name} to float")
            lines.append(f"  store float %short_{name}, ptr %{place}")
    return lines


def _declare(f: Factorisation, element: str, parts: ModuleParts) -> None:
    """What the function calls besides the routine."""
    declares = parts.declares
    if f.op != "triangular_solve":
        for a, b in ((element, "double"), ("double", element)):
            cast = "fpext" if a == "float" else "fptrunc"
            parts.functions[f"transposed_{a}_{b}"] = _TRANSPOSED.format(
                A=a, B=b, x="%x" if a == b else "%y",
                convert="" if a == b else f"\n  %y = {cast} {a} %x to {b}",
            )  # fmt: skip
        declares.add("declare i64 @llvm.smin.i64(i64, i64)")
    declares.add("declare i64 @llvm.smax.i64(i64, i64)")
    declares.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    letters = {"cholesky": "L", "eigh": "LV", "eigvalsh": "LN"}.get(f.op, "")
    for letter in letters:
        parts.globals[f'private constant [1 x i8] c"{letter}"'] = f"@gg.{LETTERS[letter]}"
    if f.op in ("det", "slogdet"):
        names = "llvm.fabs.f64", "log", "exp"
        declares |= {f"declare double @{name}(double)" for name in names}


def _arguments(f: Factorisation) -> list[str]:
    lines = []
    names = [f"all_{name}" for name in POINTERS[f.op]] + ["all_scratch"]
    for i, name in enumerate(names):
        lines.append(f"  %at_{name} = getelementptr ptr, ptr %args, i64 {i}")
        lines.append(f"  %{name} = load ptr, ptr %at_{name}")
    sizes = ["n", "k", *(f"stack_{d}" for d in range(1, len(f.stack)))]
    sizes += ["integer_bytes", "scratch_bytes"]
    for i, name in enumerate(sizes, len(names)):
        lines.append(f"  %at_{name} = getelementptr i64, ptr %args, i64 {i}")
        lines.append(f"  %{name} = load i64, ptr %at_{name}")
    lines.append(f"  %at_routine = getelementptr ptr, ptr %args, i64 {len(names) + len(sizes)}")
    lines.append("  %routine = load ptr, ptr %at_routine")
    return lines


def _prepared(integer: str) -> list[str]:
    """Sizes as LAPACK takes them, steps between columns at least 1, and this thread's scratch."""
    lines = ["  %columns = call i64 @llvm.smax.i64(i64 %n, i64 1)"]
    for x, size, place in (("n", "n", "size_n"), ("k", "k", "size_k"), ("lda", "columns", "lda")):
        cast = f"add i64 %{size}, 0" if integer == "i64" else f"trunc i64 %{size} to i32"
        lines.append(f"  %int_{x} = {cast}")
        lines.append(f"  %{place} = alloca {integer}")
        lines.append(f"  store {integer} %int_{x}, ptr %{place}")
    return [
        *lines,
        f"  %info = alloca {integer}",
        f"  store {integer} 0, ptr %info",
        "  %matrix = mul i64 %n, %n",
        "  %right = mul i64 %n, %k",
        f"  %at_thread = getelementptr i64, ptr %status, i64 {STATUS_THREAD}",
        "  %thread = load i64, ptr %at_thread",
        "  %ahead = mul i64 %thread, %scratch_bytes",
        "  %pivots = getelementptr i8, ptr %all_scratch, i64 %ahead",
        "  %factor = getelementptr i8, ptr %pivots, i64 %integer_bytes",
    ]


def _work_space(integer: str) -> list[str]:
    """The sizes of the work space of eigenvalues: 2 n^2 + 6 n + 1 numbers, and 5 n + 3 integers."""
    lines = [
        "  %squares = shl i64 %matrix, 1",
        "  %lines = mul i64 %n, 6",
        "  %most = add i64 %squares, %lines",
        "  %number_count = add i64 %most, 1",
        "  %fives = mul i64 %n, 5",
        "  %integer_count = add i64 %fives, 3",
    ]
    for name, size in (("lwork", "number_count"), ("liwork", "integer_count")):
        cast = f"add i64 %{size}, 0" if integer == "i64" else f"trunc i64 %{size} to i32"
        lines.append(f"  %int_{name} = {cast}")
        lines.append(f"  %{name} = alloca {integer}")
        lines.append(f"  store {integer} %int_{name}, ptr %{name}")
    return lines


def _moved(f: Factorisation, element: str) -> list[str]:
    """The pointers of matrix i."""
    system = f.op in ("solve", "triangular_solve")
    lines = ["  %matrices = mul i64 %i, %matrix", "  %rights = mul i64 %i, %right"]
    lines.append("  %firsts = mul i64 %i, %n")
    for name in POINTERS[f.op]:
        if f.op in ("det", "slogdet") and name != "x":
            by = "%i"
        elif name == "values":
            by = "%firsts"
        else:
            by = "%rights" if system and name != "a" else "%matrices"
        lines.append(f"  %{name} = getelementptr {element}, ptr %all_{name}, i64 {by}")
    lines.append("  %sides = getelementptr double, ptr %factor, i64 %matrix")
    return lines


def _failed(f: Factorisation, failure: int) -> list[str]:
    """Note which matrix of the stack it was."""
    lines = ["failed:"]
    noted = [(STATUS_FAILURE, str(failure))]
    rest = "%i"
    for d in reversed(range(len(f.stack))):
        place = rest
        if d:
            lines.append(f"  %place_{d} = urem i64 {rest}, %stack_{d}")
            lines.append(f"  %rest_{d} = udiv i64 {rest}, %stack_{d}")
            place, rest = f"%place_{d}", f"%rest_{d}"
        noted.append((WORDS[PLACES[d]], place))
    for word, value in noted:
        lines.append(f"  %status_{word} = getelementptr i64, ptr %status, i64 {word}")
        lines.append(f"  store i64 {value}, ptr %status_{word}")
    return [*lines, "  ret i32 1"]
