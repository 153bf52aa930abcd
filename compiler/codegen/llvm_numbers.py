"""Arithmetic on sizes and addresses in LLVM text, done at once where the numbers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphgrad.compiler.codegen.llvm_loops import Loops
from graphgrad.compiler.codegen.llvm_scalar import ATTRIBUTES, ModuleParts
from graphgrad.compiler.dims import Extent


def load_pointers(pointers: Sequence[str]) -> list[str]:
    """What loads the pointers among `%args`, each by its name."""
    found = []
    for i, p in enumerate(pointers):
        found.append(f"  %at_{p} = getelementptr ptr, ptr %args, i64 {i}")
        found.append(f"  %{p} = load ptr, ptr %at_{p}")
    return found


class Numbers(Loops):
    """Arithmetic on sizes, done at once where they are known."""

    parts: ModuleParts
    sizes: dict[Extent, int]
    element: str  # the type of what `after` counts

    def size(self, extent: Extent) -> str:
        """A size as an operand: an argument, or a literal where it is 0 or 1."""
        if isinstance(extent, int) and 0 <= extent <= 1:
            return str(extent)
        return f"%n{self.sizes.setdefault(extent, len(self.sizes))}"

    def launched(self, name: str, pointers: Sequence[str], stack: Sequence[str] = ()) -> str:
        """The text at hand as a function that programs call: `args` holds pointers, then sizes."""
        head = [f"define internal i32 @{name}(ptr %status, i64 %lo, i64 %hi, ptr %args) "
                f"{ATTRIBUTES} {{", "entry:", *stack, *load_pointers(pointers)]  # fmt: skip
        for i in range(len(self.sizes)):
            head.append(f"  %np{i} = getelementptr i64, ptr %args, i64 {len(pointers) + i}")
            head.append(f"  %n{i} = load i64, ptr %np{i}")
        return "\n".join([*head, *self.text.lines, "  ret i32 0", "}"])

    def mul(self, a: str, b: str | int) -> str:
        b = str(b)
        if is_number(a) and is_number(b):
            return str(int(a) * int(b))
        if "0" in (a, b):
            return "0"
        if "1" in (a, b):
            return b if a == "1" else a
        return self.text.assign(f"mul i64 {a}, {b}")

    def add(self, a: str, b: str | int) -> str:
        b = str(b)
        if is_number(a) and is_number(b):
            return str(int(a) + int(b))
        if "0" in (a, b):
            return b if a == "0" else a
        return self.text.assign(f"add i64 {a}, {b}")

    def sub(self, a: str, b: str) -> str:
        if is_number(b):
            return self.add(a, -int(b))
        return self.text.assign(f"sub i64 {a}, {b}")

    def div(self, a: str, b: str | int) -> str:
        """a // b of numbers that are not negative."""
        b = str(b)
        if is_number(a) and is_number(b):
            return str(int(a) // int(b))
        return a if b == "1" else self.text.assign(f"udiv i64 {a}, {b}")

    def min(self, a: str, b: str) -> str:
        return self.extreme("smin", a, b)

    def max(self, a: str, b: str) -> str:
        return self.extreme("smax", a, b)

    def extreme(self, which: str, a: str, b: str) -> str:
        if is_number(a) and is_number(b):
            return str((min if which == "smin" else max)(int(a), int(b)))
        self.parts.declares.add(f"declare i64 @llvm.{which}.i64(i64, i64)")
        return self.text.assign(f"call i64 @llvm.{which}.i64(i64 {a}, i64 {b})")

    def parted(self, item: str, count: str) -> tuple[str, str]:
        """item // count and item % count."""
        if count == "1":
            return item, "0"
        over = self.div(item, count)
        return over, self.sub(item, self.mul(over, count))

    def at(self, pointer: str, bytes_: str) -> str:
        if bytes_ == "0":
            return pointer
        return self.text.assign(f"getelementptr i8, ptr {pointer}, i64 {bytes_}")

    def after(self, pointer: str, offset: str) -> str:
        """The address of the element `offset` elements on."""
        if offset == "0":
            return pointer
        return self.text.assign(f"getelementptr {self.element}, ptr {pointer}, i64 {offset}")

    def when(self, condition: str, body: Callable[[], None]) -> None:
        """`if condition: body()`."""
        inside, after = self.text.name("then"), self.text.name("after")
        self.text.line(f"br i1 {condition}, label %{inside}, label %{after}")
        self.label(inside)
        body()
        self.text.line(f"br label %{after}")
        self.label(after)


def is_number(text: str) -> bool:
    return text.lstrip("-").isdigit()
