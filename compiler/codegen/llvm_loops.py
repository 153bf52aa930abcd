"""Counted loops in LLVM text."""

from __future__ import annotations

from collections.abc import Callable

from graphgrad.compiler.codegen.llvm_scalar import FunctionText


class Loops:
    """What writes loops into a function: its text, and the label of the block at work."""

    text: FunctionText
    block: str

    def label(self, name: str) -> None:
        """Begin a basic block."""
        self.text.block(name)
        self.block = name

    def loop(
        self, lo: str, hi: str, step: int, carried: list[tuple[str, str]],
        body: Callable[[str, list[str]], list[str]],
    ) -> list[str]:  # fmt: skip
        """`for i in range(lo, hi, step)`; `carried` are (type, start) pairs that `body` maps on.

        Returns their final values.
        """
        head, inside, after = (self.text.name(s) for s in ("head", "body", "exit"))
        index = "%" + self.text.name("i")
        phis = ["%" + self.text.name("c") for _ in carried]
        before = self.block
        self.text.line(f"br label %{head}")
        self.label(head)
        at = len(self.text.lines)
        test = "%" + self.text.name("t")
        self.text.line(f"{test} = icmp slt i64 {index}, {hi}")
        self.text.line(f"br i1 {test}, label %{inside}, label %{after}")
        self.label(inside)
        ends = body(index, phis)
        following = "%" + self.text.name("i")
        self.text.line(f"{following} = add nsw i64 {index}, {step}")
        self.text.line(f"br label %{head}")
        lines = [f"  {index} = phi i64 [ {lo}, %{before} ], [ {following}, %{self.block} ]"]
        for (type_, start), phi, end in zip(carried, phis, ends, strict=True):
            lines.append(f"  {phi} = phi {type_} [ {start}, %{before} ], [ {end}, %{self.block} ]")
        self.text.lines[at:at] = lines
        self.label(after)
        return phis
