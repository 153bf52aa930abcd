"""The function that sums one tile of a convolution, and what becomes of its sums.

    define internal void @KERNEL_tile14(ptr %x, ptr %w, i64 %at, i64 %channel, ptr %told)

`%x` is where the first tap of the first target reads, `%w` the panel. The first target's first
channel is element `%at` of the result, and the `%channel`-th of all channels. `%told` holds what
many tiles share (`TOLD`), and the pointers of the result and of the epilogue's arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler.codegen.llvm_columns import Memory
from graphgrad.compiler.codegen.llvm_epilogue import EpilogueEmitter, Piece
from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    FunctionText,
    Lanes,
    VectorEmitter,
    llvm_type,
)
from graphgrad.compiler.kernels.convolution_tiles import Tiling
from graphgrad.compiler.kernels.epilogues import SAME
from graphgrad.compiler.kernels.loops import Stmt, compute_dtype

# Numbers of 8 bytes: taps along each axis; the bytes from tap to tap of the first two, and from row
# to row of the tile; the elements from row to row of the result; the bytes of the panel from tap to
# tap of the first axis, which may be more than those of the taps that are summed.
TAPS, STEPS, ROW, LINE, SLICE = range(3), (3, 4), 5, 6, 7
TOLD = 8
# Instructions that an epilogue may have for all sums of a tile to be written one by one; else they
# are a loop over its targets.
INLINE = 150


class TileEmitter(EpilogueEmitter):
    """Emits the functions of tiles."""

    t: Tiling

    def prepare(self, t: Tiling) -> None:
        self.t = t
        self.given = t.conv.dtype  # in memory
        self.dtype = compute_dtype(self.given)
        self.element = llvm_type(self.dtype)
        self.bytes = self.dtype.itemsize
        self.width = t.lanes
        self.vector = f"<{t.lanes} x {self.element}>"
        self.vector_bytes = t.lanes * self.bytes

    @property
    def place_bytes(self) -> int:
        """From place to place of what tiles read."""
        return self.t.reduced * self.t.conv.groups * self.bytes

    @property
    def target_elements(self) -> int:
        """From target to target of the result."""
        return self.t.made * self.t.conv.groups

    def tile(self, width: int, is_last: bool, columns: int) -> str:
        """The function of a tile: `width` vectors for each of its columns."""
        t = self.t
        self.text, self.block = FunctionText(self.parts), "entry"
        name = f"@KERNEL_{'last' if is_last else 'tile'}{columns}"
        words = []
        for i in range(TOLD):
            at = self.text.assign(f"getelementptr i64, ptr %told, i64 {i}")
            words.append(self.text.assign(f"load i64, ptr {at}"))
        places = [(r, c) for r in range(t.rows) for c in range(columns)]
        self.fetch_ahead(places, width, words[LINE])
        sums = self.sums(words, places, width)
        count = t.made * t.run - (t.panels - 1) * t.width * t.lanes if is_last else width * t.lanes
        stack = self.finish(places, sums, width, count, words[LINE])
        head = (
            f"define internal void {name}(ptr %x, ptr %w, i64 %at, i64 %channel, ptr %told) "
            f"{ATTRIBUTES} {{"
        )
        return "\n".join([head, "entry:", *stack, *self.text.lines, "  ret void", "}"])

    # -- sums

    def sums(
        self, words: Sequence[str], places: Sequence[tuple[int, int]], width: int
    ) -> list[str]:
        """The sums of all places, `width` vectors each."""
        t = self.t
        across = t.axes[2]
        # The taps of a row and their channels are one run in memory.
        joined = across.apart == 1 and t.conv.groups == 1

        def channels(x: str, w: str, count: str, sums: list[str]) -> list[str]:
            rows = [self.at(x, self.mul(words[ROW], r)) for r in range(t.rows)]
            carried = [("ptr", w), *((self.vector, s) for s in sums)]

            def one(i: str, now: list[str]) -> list[str]:
                at, *own = now
                if t.asks_ahead:
                    self.ask_ahead(x, i)
                ends = self.add_products(rows, at, i, places, own)
                return [self.at(at, str(width * self.vector_bytes)), *ends]

            return self.loop("0", count, 1, carried, one)

        def over(axis: int, x: str, now: list[str]) -> list[str]:
            """The taps of an axis and of those after it; `now` are the filter and the sums."""
            w, *sums = now
            if axis == 2 and joined:
                return channels(x, w, self.mul(words[TAPS[2]], t.reduced), sums)
            if axis == 3:
                return channels(x, w, str(t.reduced), sums)
            apart = (words[STEPS[0]], words[STEPS[1]], str(across.apart * self.place_bytes))[axis]
            if {len(p.taps) for p in t.axes[axis].phases} == {1}:
                return over(axis + 1, x, now)
            carried = [("ptr", x), ("ptr", w), *((self.vector, s) for s in sums)]

            def one(_: str, c: list[str]) -> list[str]:
                end, *now = over(axis + 1, c[0], c[1:])
                if axis == 0:
                    end = self.at(c[1], words[SLICE])
                return [self.at(c[0], apart), end, *now]

            return self.loop("0", words[TAPS[axis]], 1, carried, one)[1:]

        return over(0, "%x", ["%w", *["zeroinitializer"] * (len(places) * width)])[1:]

    def add_products(
        self, x: Sequence[str], w: str, i: str, places: Sequence[tuple[int, int]], sums: list[str]
    ) -> list[str]:
        """Channel i of a tap, for all places of rows that begin at `x`."""
        t, width = self.t, len(sums) // len(places)
        filters = [
            self.text.assign(
                f"load {self.vector}, ptr {self.at(w, str(v * self.vector_bytes))}, "
                f"align {self.vector_bytes}"
            )
            for v in range(width)
        ]
        memory = Memory(self.text, self.parts, self.dtype)
        rows = [self.at(p, self.mul(i, self.bytes)) for p in x]
        apart = t.run * t.axes[2].step * self.place_bytes
        ends = []
        for (r, c), k in zip(places, range(0, len(sums), width), strict=True):
            at = self.at(rows[r], str(c * apart))
            one = self.text.assign(f"load {self.element}, ptr {at}, align {self.bytes}")
            everywhere = self.splat(Lanes(one, self.dtype)).text
            for f, s in zip(filters, sums[k : k + width], strict=True):
                ends.append(memory.multiply_add(everywhere, f, s, t.lanes))
        return ends

    def ask_ahead(self, x: str, i: str) -> None:
        """Ask for a part of what the next tile reads, which lies behind what this one reads."""
        whole = self.t.columns * self.place_bytes
        self.ask(self.at(x, self.add(self.mul(i, whole // self.t.reduced), whole)))

    # -- results

    def finish(
        self, places: Sequence[tuple[int, int]], sums: Sequence[str], width: int, count: int,
        line: str,
    ) -> list[str]:  # fmt: skip
        """Store the sums, or what the epilogue makes of them; `count` channels are there.

        Returns what the function needs on the stack.
        """
        t = self.t
        across = t.run * t.axes[2].spread * self.target_elements
        if self.work * len(sums) <= INLINE or self.epilogue is None:
            pieces = self.pieces(width, count, 1)
            known = [self.shared_values(piece) for piece in pieces]
            for (r, c), k in zip(places, range(0, len(sums), width), strict=True):
                start = self.add(self.add("%at", self.mul(line, r)), c * across)
                for v, piece in enumerate(pieces):
                    self.result(start, piece, sums[k + v], known[v])
            return []
        for k, s in enumerate(sums):
            at = self.text.assign(f"getelementptr {self.vector}, ptr %sums, i64 {k}")
            self.text.line(f"store {self.vector} {s}, ptr {at}, align {self.vector_bytes}")
        columns = 1 + max(c for _, c in places)
        pieces = self.pieces(width, count, 2)
        known = [self.shared_values(piece) for piece in pieces]

        def row(r: str, _: list[str]) -> list[str]:
            begin = self.add("%at", self.mul(line, r))

            def place(c: str, _: list[str]) -> list[str]:
                start = self.add(begin, self.mul(c, across))
                first = self.mul(self.add(self.mul(r, columns), c), width * self.vector_bytes)
                own = self.at("%sums", first)
                for piece, shared in zip(pieces, known, strict=True):
                    at = self.at(own, str(piece.first * self.bytes))
                    vector = f"<{piece.lanes} x {self.element}>"
                    s = self.text.assign(f"load {vector}, ptr {at}, align {self.vector_bytes}")
                    self.result(start, piece, s, shared)
                return []

            self.loop("0", str(columns), 1, [], place)
            return []

        self.loop("0", str(t.rows), 1, [], row)
        return [f"  %sums = alloca [{len(sums)} x {self.vector}], align 64"]

    def fetch_ahead(self, places: Sequence[tuple[int, int]], width: int, line: str) -> None:
        """Ask for the elements of other arrays that the epilogue reads: they come while the sums
        are made."""
        t = self.t
        if self.epilogue is None:
            return
        read = {s.attr: s.dtype for s in self.epilogue.stmts if s.fn == "load"}
        for array, dtype in read.items():
            if array == self.epilogue.result or self.epilogue.walks[array] != SAME:
                continue
            base = self.base(array)
            for r, c in places:
                across = c * t.run * t.axes[2].spread * self.target_elements
                start = self.add(self.add("%at", self.mul(line, r)), across)
                for v in range(width):
                    self.ask(self.element_at(base, self.add(start, v * t.lanes), dtype))

    def pieces(self, width: int, count: int, most: int) -> list[Piece]:
        """The channels of a place in pieces of `most` vectors. Long computations go two vectors at
        a time: between what waits for a result of the one there is work for the other."""
        lanes, found = self.t.lanes, []
        for v in range(0, width, most):
            size = min(most, width - v) * lanes
            found.append(Piece(v * lanes, size, min(size, count - v * lanes)))
        return found

    def channel_values(self, s: Stmt, piece: Piece) -> Lanes:
        """A value a channel; of a run of targets, those of one after the other."""
        t = self.t
        base, e = self.base(s.attr), VectorEmitter(self.text, piece.lanes)
        if t.run == 1:
            at = self.element_at(base, self.add("%channel", piece.first), s.dtype)
            return self.load_lanes(e, at, s.dtype, piece.inside)
        vector = "zeroinitializer"
        for lane in range(piece.inside):
            one = self.load_one(base, str((piece.first + lane) % t.made), s.dtype)
            element = f"{llvm_type(s.dtype)} {one.text}"
            vector = self.text.assign(
                f"insertelement {e.type(s.dtype)} {vector}, {element}, i64 {lane}"
            )
        return Lanes(vector, s.dtype)

    # -- memory

    def pointer(self, number: int) -> str:
        """The result (0), or an array of the epilogue (from 1 on)."""
        at = self.text.assign(f"getelementptr ptr, ptr %told, i64 {TOLD + number}")
        return self.text.assign(f"load ptr, ptr {at}")
