"""How kernels are launched: over many items on several threads, or over the rows of a batch."""

from __future__ import annotations

from graphgrad.runtime.program import STATUS_THREADS

# Runs a kernel over 0..count: by `routine` where there are more items than `least` and threads to
# share them, else here. `words` are count, least and grain.
SHARE = f"""
define internal i32 @share(ptr %status, ptr %routine, ptr %kernel, ptr %words,
                           ptr %args) nounwind {{
  %count = load i64, ptr %words
  %at_least = getelementptr i64, ptr %words, i64 1
  %least = load i64, ptr %at_least
  %at_grain = getelementptr i64, ptr %words, i64 2
  %grain = load i64, ptr %at_grain
  %word = getelementptr i64, ptr %status, i64 {STATUS_THREADS}
  %threads = load i64, ptr %word
  %several = icmp sgt i64 %threads, 1
  %much = icmp sgt i64 %count, %least
  %both = and i1 %several, %much
  br i1 %both, label %shared, label %alone
shared:
  %r0 = call i32 %routine(ptr %status, ptr %kernel, i64 %count, i64 %grain, ptr %args)
  ret i32 %r0
alone:
  %r1 = call i32 %kernel(ptr %status, i64 0, i64 %count, ptr %args)
  ret i32 %r1
}}
"""


# Runs the kernel of a batch over a part of its items, which are its rows one behind the other, each
# rounded up to whole pieces. Of a row, the table says where in the call's table its length is, and
# each of its arguments; a negative number -w stands for the arena, moved by the word w.
ROWS = """
define internal i32 @rows(ptr %status, i64 %lo, i64 %hi, ptr %args) nounwind {{
entry:
  %table = load ptr, ptr %args
  %at_kernel = getelementptr ptr, ptr %args, i64 1
  %kernel = load ptr, ptr %at_kernel
  %at_codes = getelementptr ptr, ptr %args, i64 2
  %codes = load ptr, ptr %at_codes
  %at_rows = getelementptr i64, ptr %args, i64 3
  %rows = load i64, ptr %at_rows
  %at_width = getelementptr i64, ptr %args, i64 4
  %width = load i64, ptr %at_width
  %at_arena = getelementptr i64, ptr %table, i64 {slots}
  %arena = load i64, ptr %at_arena
  %words = alloca i64, i64 %width, align 64
  br label %row
row:
  %r = phi i64 [ 0, %entry ], [ %r_next, %next ]
  %start = phi i64 [ 0, %entry ], [ %end, %next ]
  %code = phi ptr [ %codes, %entry ], [ %code_next, %next ]
  %more = icmp slt i64 %r, %rows
  %before = icmp slt i64 %start, %hi
  %on = and i1 %more, %before
  br i1 %on, label %look, label %done
look:
  %length_code = load i32, ptr %code
  %at_length = getelementptr i64, ptr %table, i32 %length_code
  %length = load i64, ptr %at_length
  %with = add i64 %length, {mask}
  %whole = and i64 %with, -{lanes}
  %end = add i64 %start, %whole
  %r_next = add i64 %r, 1
  %first = getelementptr i32, ptr %code, i64 1
  %code_next = getelementptr i32, ptr %first, i64 %width
  %a0 = sub i64 %lo, %start
  %a = call i64 @llvm.smax.i64(i64 %a0, i64 0)
  %b0 = sub i64 %hi, %start
  %b = call i64 @llvm.smin.i64(i64 %b0, i64 %length)
  %some = icmp slt i64 %a, %b
  br i1 %some, label %fill, label %next
fill:
  %w = phi i64 [ 0, %look ], [ %w_next, %fill ]
  %at_code = getelementptr i32, ptr %first, i64 %w
  %c = load i32, ptr %at_code
  %negative = icmp slt i32 %c, 0
  %minus = sub i32 0, %c
  %word = select i1 %negative, i32 %minus, i32 %c
  %at_word = getelementptr i64, ptr %table, i32 %word
  %value = load i64, ptr %at_word
  %base = select i1 %negative, i64 %arena, i64 0
  %argument = add i64 %base, %value
  %to = getelementptr i64, ptr %words, i64 %w
  store i64 %argument, ptr %to
  %w_next = add i64 %w, 1
  %filled = icmp eq i64 %w_next, %width
  br i1 %filled, label %run, label %fill
run:
  call i32 %kernel(ptr %status, i64 %a, i64 %b, ptr %words)
  br label %next
next:
  br label %row
done:
  ret i32 0
}}
"""
