"""Random draws: pure functions of a key, int64[2] (key, counter), by Philox4x32-10.

Element i of a 32-bit draw is word i % 4 of block counter + i // 4; of a 64-bit draw, words 0 and 1
or 2 and 3 of block counter + i // 2. A draw of n elements so uses `blocks(n, dtype)` blocks, by
which the owner of the counter advances it. `stream` is the upper half of the 128-bit counter: it
keeps bits that make new keys apart from those that are drawn.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Generator
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops
from graphgrad.compiler.ops.shapes import as_shape
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import Shape, TensorType, element_count, show_shape, tensor_type

SPLIT, FOLD, SEED = 1, 2, 3  # streams

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(key: Any, counter: Array, high: int) -> Array:
    """The four words at each uint64 `counter`, as uint32 in a last axis of size 4."""
    shape = np.broadcast_shapes(np.shape(key), np.shape(counter))
    top = np.uint64(high)
    c = [
        np.broadcast_to(v, shape)
        for v in (counter & _LOW, counter >> _HALF, top & _LOW, top >> _HALF)
    ]
    keys = [key & _LOW, key >> _HALF]
    for turn in range(10):
        if turn:
            keys = [(k + step) & _LOW for k, step in zip(keys, _KEY_STEPS, strict=True)]
        p0, p1 = c[0] * _MULTIPLIERS[0], c[2] * _MULTIPLIERS[1]
        c = [(p1 >> _HALF) ^ c[1] ^ keys[0], p1 & _LOW, (p0 >> _HALF) ^ c[3] ^ keys[1], p0 & _LOW]
    return np.stack(c, axis=-1).astype(np.uint32)


def blocks(count: Extent, dtype: DType) -> Extent:
    """The number of counter values that a draw of `count` elements uses."""
    each = 2 if dtype.bits == 64 else 4
    return (count + (each - 1)) // each


def _words(key: Array, count: int, per_block: int, stream: int) -> Array:
    """The words of a draw of `count` elements, `4 // per_block` in the last axis for each.

    `key` is (..., 2): its first axes are axes of the result.
    """
    with np.errstate(over="ignore"):
        own = key.astype(np.int64).view(np.uint64)
        steps = np.arange(-(-count // per_block), dtype=np.uint64)
        words = philox(own[..., :1], own[..., 1:] + steps, stream)
    each = 4 // per_block
    return words.reshape((*key.shape[:-1], -1, each))[..., :count, :]


def _scalar_words(s: Any, index: Any, key: Any, counter: Any, per_block: int, stream: int) -> Any:
    """The words of the block that holds element `index`, and its place in the block."""
    u64 = dtypes.uint64
    shift = {1: 0, 2: 1, 4: 2}[per_block]
    block = s.add(s.bitcast(counter, u64), s.bitcast(s.lshr(index, shift), u64))
    words = s.philox(s.bitcast(key, u64), block, s.const(stream, u64))
    return words, s.and_(index, per_block - 1)


def _pick(s: Any, place: Any, values: Any) -> Any:
    """values[place]."""
    picked = values[0]
    for i, v in enumerate(values[1:], 1):
        picked = s.select(s.eq(place, i), v, picked)
    return picked


def _type(allowed: tuple[DType, ...], op: str) -> Any:
    def infer(key: TensorType, shape: Shape, dtype: DType, **rest: Any) -> TensorType:
        if key.dtype is not dtypes.int64 or key.ndim < 1 or key.shape[-1] != 2:
            raise ShapeError(f"{op}: a key is i64[2] (key, counter), got {key}")
        if dtype not in allowed:
            names = " or ".join(d.name for d in allowed)
            raise DTypeError(f"{op}: draws {names}, not {dtype.name}")
        if any(isinstance(n, int) and n < 0 for n in shape):
            raise ShapeError(f"{op}: a negative size in {show_shape(shape)}")
        return tensor_type((*key.shape[:-1], *shape), dtype)

    return infer


def _bind(key: Any, shape: Any, dtype: Any, **rest: Any) -> tuple[tuple[Any, ...], Attrs]:
    attrs = {"shape": as_shape(shape), "dtype": dtypes.as_dtype(dtype), **rest}
    return (current_kind().lift(key, dtypes.int64),), attrs


def _batch(name: str) -> Any:
    """Lanes with keys of their own: the first axes of a key are axes of the result."""

    def batch(
        xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, **attrs: Any
    ) -> tuple[Any, ...]:
        return (ops[name](xs[0], **attrs),)

    return batch


# -- bits


def _bits(key: Array, shape: tuple[int, ...], dtype: DType, stream: int) -> Array:
    words = _words(key, math.prod(shape), 2 if dtype.bits == 64 else 4, stream)
    if dtype.bits == 64:
        wide = words.astype(np.uint64)
        words = (wide[..., :1] << _HALF) | wide[..., 1:]
    return words.reshape((*key.shape[:-1], *shape))


def _bits_scalar(
    s: Any, index: Any, key: Any, counter: Any, shape: Shape, dtype: DType, stream: int
) -> Any:
    if dtype.bits == 32:
        words, place = _scalar_words(s, index, key, counter, 4, stream)
        return _pick(s, place, words)
    words, place = _scalar_words(s, index, key, counter, 2, stream)
    wide = [s.convert(w, dtypes.uint64) for w in words]
    pairs = [s.or_(s.shl(wide[i], 32), wide[i + 1]) for i in (0, 2)]
    return _pick(s, place, pairs)


def _key_cases(**attrs: Any) -> Any:
    def cases(rng: np.random.Generator, dtype: Any) -> Any:
        for shape in ((5,), (2, 3), (), (0,), (9,)):
            key = rng.integers(-(2**63), 2**63 - 1, 2)
            yield (key,), {"shape": shape, "dtype": np.dtype(dtype), **attrs}
        key = np.array([7, 2**63 - 2])  # the counter wraps
        yield (key,), {"shape": (17,), "dtype": np.dtype(dtype), **attrs}

    return cases


def _oracle_words(key: Array, counter: int, stream: int) -> list[int]:
    """Philox4x32-10 in Python integers."""
    mask = 2**32 - 1
    k = int(key[0]) % 2**64
    keys = [k & mask, k >> 32]
    c = [counter & mask, counter >> 32, stream, 0]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ keys[0], p1 & mask, (p0 >> 32) ^ c[3] ^ keys[1], p0 & mask]
        keys = [(keys[0] + 0x9E3779B9) & mask, (keys[1] + 0xBB67AE85) & mask]
    return c


def _oracle(element: Any) -> Any:
    """An oracle that computes `element(words, place in block, is_wide)` one by one."""

    def oracle(key: Array, shape: Any, dtype: Any, stream: int = 0) -> Array:
        wide = np.dtype(dtype).itemsize == 8
        each = 2 if wide else 4
        values = []
        for i in range(math.prod(shape)):
            counter = (int(key[1]) % 2**64 + i // each) % 2**64
            values.append(element(_oracle_words(key, counter, stream), i % each, wide))
        return np.array(values, dtype=object).reshape(shape)

    return oracle


def _bits_of(words: list[int], place: int, wide: bool) -> int:
    return words[2 * place] << 32 | words[2 * place + 1] if wide else words[place]


def _uniform_of(words: list[int], place: int, wide: bool) -> float:
    if wide:
        return ((words[2 * place] >> 5) * 2**26 + (words[2 * place + 1] >> 6)) / 2**53
    return (words[place] >> 8) / 2**24


def _normal_of(words: list[int], place: int, wide: bool) -> float:
    pair = 0 if wide else place // 2 * 2
    u, v = (_uniform_of(words, i, wide) for i in (pair, pair + 1))
    radius = math.sqrt(-2 * math.log(1 - u))
    return radius * (math.sin if place % 2 else math.cos)(2 * math.pi * v)


random_bits = Generator(
    name="random_bits",
    public="",
    bind=lambda key, shape, dtype=dtypes.uint32, stream=0: _bind(key, shape, dtype, stream=stream),
    type=_type((dtypes.uint32, dtypes.uint64), "random_bits"),
    ref=_bits,
    scalar=_bits_scalar,
    nondifferentiable=True,
    batch=_batch("random_bits"),
    samples=Samples(
        cases=_key_cases(stream=1),
        dtypes=("uint32", "uint64"),
        oracle=_oracle(_bits_of),
        errors=(
            (
                lambda op: op(np.array([1, 2, 3]), (2,)),
                "a key is i64[2] (key, counter), got i64[3]",
            ),
        ),
    ),
    doc="Uniform random bits of uint32 or uint64, from a key int64[2].",
)

# -- uniform


def _uniform01(words: Array) -> Array:
    """Uniforms in [0, 1): float32 from one word, float64 from two."""
    if words.shape[-1] == 1:
        return (words >> np.uint32(8)).astype(np.float32)[..., 0] * np.float32(2.0**-24)
    high, low = (words[..., i].astype(np.float64) for i in (0, 1))
    return np.asarray((np.floor(high / 32) * 2.0**26 + np.floor(low / 64)) * 2.0**-53)


def _uniform(key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    words = _words(key, math.prod(shape), 2 if dtype.bits == 64 else 4, 0)
    return _uniform01(words).reshape((*key.shape[:-1], *shape))


def _uniform_scalar(s: Any, index: Any, key: Any, counter: Any, shape: Shape, dtype: DType) -> Any:
    if dtype.bits == 32:
        words, place = _scalar_words(s, index, key, counter, 4, 0)
        return s.uniform01_f32(_pick(s, place, words))
    words, place = _scalar_words(s, index, key, counter, 2, 0)
    high, low = _pick(s, place, (words[0], words[2])), _pick(s, place, (words[1], words[3]))
    return s.uniform01_f64(high, low)


FLOATS = (dtypes.float32, dtypes.float64)

random_uniform = Generator(
    name="random_uniform",
    public="",
    bind=lambda key, shape, dtype=dtypes.float32: _bind(key, shape, dtype),
    type=_type(FLOATS, "random_uniform"),
    ref=_uniform,
    scalar=_uniform_scalar,
    nondifferentiable=True,
    batch=_batch("random_uniform"),
    samples=Samples(
        cases=_key_cases(), dtypes=("float32", "float64"), oracle=_oracle(_uniform_of), ulp=0.0
    ),
    doc="Uniform draws from [0, 1), multiples of 2**-24 (float32) or 2**-53 (float64).",
)

# -- normal: Box and Muller's pairs, sqrt(-2 log u) (cos, sin)(2 pi v) with u in (0, 1]


def _normal(key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    count = math.prod(shape)
    per_block = 2 if dtype.bits == 64 else 4
    words = _words(key, -(-count // per_block) * per_block, per_block, 0)
    uniforms = _uniform01(words)
    pairs = uniforms.reshape((*uniforms.shape[:-1], -1, 2))
    u, v = pairs[..., 0], pairs[..., 1]
    one = u.dtype.type(1)
    radius = np.sqrt(u.dtype.type(-2) * np.log(one - u))
    angle = v * u.dtype.type(2 * math.pi)
    both = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    flat = both.reshape((*key.shape[:-1], -1))[..., :count]
    return flat.reshape((*key.shape[:-1], *shape))


def _normal_scalar(s: Any, index: Any, key: Any, counter: Any, shape: Shape, dtype: DType) -> Any:
    if dtype.bits == 32:
        words, place = _scalar_words(s, index, key, counter, 4, 0)
        second = s.ge(place, 2)
        u = s.uniform01_f32(s.select(second, words[2], words[0]))
        v = s.uniform01_f32(s.select(second, words[3], words[1]))
    else:
        words, place = _scalar_words(s, index, key, counter, 2, 0)
        u, v = s.uniform01_f64(words[0], words[1]), s.uniform01_f64(words[2], words[3])
    radius = s.sqrt(s.mul(s.log(s.sub(1.0, u)), -2.0))
    angle = s.mul(v, 2 * math.pi)
    odd = s.ne(s.and_(place, 1), 0)
    return s.mul(radius, s.select(odd, s.sin(angle), s.cos(angle)))


random_normal = Generator(
    name="random_normal",
    public="",
    bind=lambda key, shape, dtype=dtypes.float32: _bind(key, shape, dtype),
    type=_type(FLOATS, "random_normal"),
    ref=_normal,
    scalar=_normal_scalar,
    nondifferentiable=True,
    batch=_batch("random_normal"),
    samples=Samples(
        cases=_key_cases(), dtypes=("float32", "float64"), oracle=_oracle(_normal_of), ulp=64.0
    ),
    doc="Standard normal draws by Box and Muller's transform.",
)

# -- functions: what the user layer builds on


def _float_draw(op: str, key: Any, shape: Any, dtype: DType) -> Any:
    """A draw of any floating dtype: 16-bit ones are rounded from float32."""
    if not dtype.is_floating:
        raise DTypeError(f"{op}: draws floats, not {dtype.name}")
    return ops[op](key, shape, dtype if dtype.bits >= 32 else dtypes.float32).cast(dtype)


@located
def uniform(
    key: Any, shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = dtypes.float32
) -> Any:
    """Draws from [minval, maxval): floats, or integers when `dtype` is one (then maxval is needed).

    Integers are 64 random bits modulo the span: the bias is below span / 2**64.
    """
    found = dtypes.as_dtype(dtype)
    if found.is_integer:
        if maxval is None:
            raise ArgumentError("random_uniform: integers need maxval")
        if isinstance(minval, int) and isinstance(maxval, int) and minval >= maxval:
            raise ArgumentError(f"random_uniform: Need minval < maxval, got {minval} >= {maxval}")
        bits = ops["random_bits"](key, shape, dtypes.uint64)
        low = current_kind().lift(minval, found).cast(found)
        span = (current_kind().lift(maxval, found).cast(found) - low).cast(dtypes.uint64)
        return (bits % span).cast(found) + low
    u = _float_draw("random_uniform", key, shape, found)
    if maxval is None:
        maxval = 1
    if isinstance(minval, int | float) and minval == 0:
        return u if isinstance(maxval, int | float) and maxval == 1 else u * maxval
    return u * (maxval - minval) + minval


@located
def normal(
    key: Any, shape: Any, mean: Any = 0, stddev: Any = 1, dtype: Any = dtypes.float32
) -> Any:
    """Draws from the normal distribution."""
    z = _float_draw("random_normal", key, shape, dtypes.as_dtype(dtype))
    if not (isinstance(stddev, int | float) and stddev == 1):
        z = z * stddev
    return z if isinstance(mean, int | float) and mean == 0 else z + mean


def new_keys(key: Any, count: int, stream: int = SPLIT) -> Any:
    """`count` keys made from one, int64[count, 2]; draw no more from the one itself."""
    return ops["random_bits"](key, (count, 2), dtypes.uint64, stream=stream).cast(dtypes.int64)


def fold_in(key: Any, data: Any) -> Any:
    """The key made from `key` and an integer; different integers give independent keys."""
    kind = current_kind()
    mixed = new_keys(key, 1, FOLD).reshape((2,))
    number = kind.lift(data).cast(dtypes.int64).reshape((1,))
    zero = kind.lift(np.zeros(1, np.int64))
    return new_keys(mixed + ops["concat"]([zero, number], 0), 1, FOLD).reshape((2,))


def key_of_seed(seed: Any) -> Any:
    """The key for a seed: two integers (TensorFlow's stateless seed), or one."""
    kind = current_kind()
    numbers = kind.lift(seed).cast(dtypes.int64)
    if numbers.ndim == 0:
        return new_keys(ops["concat"]([numbers.reshape((1,)), kind.lift(np.zeros(1, np.int64))], 0),
                        1, SEED).reshape((2,))  # fmt: skip
    return new_keys(numbers, 1, SEED).reshape((2,))


def drawn_blocks(shape: Shape, dtype: DType) -> Extent:
    """By how much a draw of `shape` advances the counter of its key."""
    work = dtypes.uint64 if dtype.is_integer else dtype
    return blocks(element_count(shape), work)
