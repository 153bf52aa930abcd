"""graphgrad: a graph-compiling autodiff framework with TensorFlow 2's face.

>>> import graphgrad as gg
>>> x = gg.Variable(3.0)
>>> with gg.GradientTape() as tape:
...     y = x * x
>>> tape.gradient(y, x).numpy()
np.float32(6.0)
"""

__version__ = "0.1.0"

import importlib
import sys
from typing import TYPE_CHECKING, Any

from graphgrad import (
    autodiff,
    dtypes,
    errors,
    linalg,
    math,
    nest,
    nn,
    random,
    slices,
)
from graphgrad.batching import vmap
from graphgrad.compiler.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from graphgrad.compiler.dtypes import bool_ as bool
from graphgrad.creation import (
    broadcast_dynamic_shape,
    broadcast_static_shape,
    constant,
    convert_to_tensor,
    ensure_shape,
    eye,
    fill,
    from_dlpack,
    is_tensor,
    linspace,
    ones,
    ones_like,
    range,
    rank,
    shape,
    shape_n,
    size,
    zeros,
    zeros_like,
)
from graphgrad.decorator import eval_shape, function
from graphgrad.framework import (
    bitcast,
    control_dependencies,
    executing_eagerly,
    get_static_value,
    gradients,
    group,
    identity_n,
    init_scope,
    inside_function,
    is_symbolic_tensor,
    name_scope,
    no_op,
    timestamp,
    tuple_,
    unravel_index,
)
from graphgrad.function import Function
from graphgrad.public import exported
from graphgrad.scattering import IndexedSlices
from graphgrad.signature import TensorSpec
from graphgrad.tape import GradientTape
from graphgrad.tape_arguments import UnconnectedGradients
from graphgrad.tensor import Tensor, TensorShape
from graphgrad.variable import Variable

if TYPE_CHECKING:
    from graphgrad import (
        autograph,
        bitwise,
        compat,
        config,
        debugging,
        losses,
        numpy_linalg,
        numpy_shapes,
        optimizers,
        signal,
        testing,
        train,
    )
    from graphgrad.callbacks import numpy_function, py_function
    from graphgrad.control import cond, while_loop
    from graphgrad.custom import custom_gradient, grad_pass_through
    from graphgrad.debugging import Assert, assert_equal, assert_greater, assert_less, assert_rank
    from graphgrad.devices import device
    from graphgrad.initializers import (
        constant_initializer,
        ones_initializer,
        random_normal_initializer,
        random_uniform_initializer,
        zeros_initializer,
    )
    from graphgrad.jacobians import hessian, jacfwd, jacrev
    from graphgrad.loops import (
        case,
        foldl,
        foldr,
        fori_loop,
        map_fn,
        scan,
        switch_case,
        vectorized_map,
    )
    from graphgrad.measurement import Roofline, roofline
    from graphgrad.printing import print
    from graphgrad.recompute import checkpoint, recompute_grad
    from graphgrad.scans import associative_scan
    from graphgrad.tensor_array import TensorArray
    from graphgrad.timing import benchmark
    from graphgrad.transforms import (
        grad,
        hvp,
        jvp,
        linear_transpose,
        linearize,
        value_and_grad,
        vjp,
    )

# Names that many programs never use: __getattr__ loads their module at the first use (PEP 562).
_LATER = {
    name: module
    for module, names in {
        "autograph": "autograph",
        "bitwise": "bitwise",
        "callbacks": "numpy_function py_function",
        "compat": "compat",
        "config": "config",
        "control": "cond while_loop",
        "custom": "custom_gradient grad_pass_through",
        "debugging": "debugging Assert assert_equal assert_greater assert_less assert_rank",
        "devices": "device",
        "initializers": "constant_initializer ones_initializer random_normal_initializer "
        "random_uniform_initializer zeros_initializer",
        "jacobians": "hessian jacfwd jacrev",
        "loops": "case foldl foldr fori_loop map_fn scan switch_case vectorized_map",
        "losses": "losses",
        "numpy_linalg": "numpy_linalg",
        "numpy_shapes": "numpy_shapes",
        "measurement": "Roofline roofline",
        "optimizers": "optimizers",
        "printing": "print",
        "recompute": "checkpoint recompute_grad",
        "scans": "associative_scan",
        "signal": "signal",
        "testing": "testing",
        "timing": "benchmark",
        "train": "train",
        "tensor_array": "TensorArray",
        "transforms": "grad hvp jvp linear_transpose linearize value_and_grad vjp",
    }.items()
    for name in names.split()
}

globals().update({k: v for k, v in exported("").items() if k not in globals() | _LATER})
double, half = float64, float16
tuple = tuple_
newaxis = None

__all__ = [
    "Assert",
    "DType",
    "Function",
    "GradientTape",
    "IndexedSlices",
    "Roofline",
    "Tensor",
    "TensorArray",
    "TensorShape",
    "TensorSpec",
    "UnconnectedGradients",
    "Variable",
    "as_dtype",
    "assert_equal",
    "assert_greater",
    "assert_less",
    "assert_rank",
    "associative_scan",
    "autodiff",
    "autograph",
    "benchmark",
    "bfloat16",
    "bitcast",
    "bitwise",
    "bool",
    "broadcast_dynamic_shape",
    "broadcast_static_shape",
    "case",
    "checkpoint",
    "compat",
    "complex128",
    "complex64",
    "cond",
    "config",
    "constant",
    "constant_initializer",
    "control_dependencies",
    "convert_to_tensor",
    "custom_gradient",
    "debugging",
    "device",
    "dtypes",
    "double",
    "ensure_shape",
    "errors",
    "executing_eagerly",
    "eval_shape",
    "eye",
    "fill",
    "float16",
    "float32",
    "float64",
    "foldl",
    "foldr",
    "fori_loop",
    "from_dlpack",
    "function",
    "get_static_value",
    "grad",
    "grad_pass_through",
    "gradients",
    "group",
    "half",
    "hessian",
    "hvp",
    "identity_n",
    "init_scope",
    "inside_function",
    "int16",
    "int32",
    "int64",
    "int8",
    "is_symbolic_tensor",
    "is_tensor",
    "jacfwd",
    "jacrev",
    "jvp",
    "linalg",
    "linear_transpose",
    "linearize",
    "linspace",
    "losses",
    "map_fn",
    "math",
    "name_scope",
    "nest",
    "newaxis",
    "nn",
    "no_op",
    "numpy_function",
    "numpy_shapes",
    "numpy_linalg",
    "ones",
    "ones_initializer",
    "ones_like",
    "optimizers",
    "print",
    "py_function",
    "random",
    "random_normal_initializer",
    "random_uniform_initializer",
    "range",
    "rank",
    "recompute_grad",
    "roofline",
    "scan",
    "shape",
    "shape_n",
    "signal",
    "size",
    "slices",
    "switch_case",
    "testing",
    "timestamp",
    "train",
    "tuple",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "unravel_index",
    "value_and_grad",
    "vectorized_map",
    "vjp",
    "vmap",
    "while_loop",
    "zeros",
    "zeros_initializer",
    "zeros_like",
]
__all__ += sorted(exported(""))


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        text = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(text, name=name, obj=sys.modules[__name__])  # "Did you mean ...?"
    module = importlib.import_module(f"{__name__}.{_LATER[name]}")
    found = globals()[name] = module if name == _LATER[name] else getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted(globals().keys() | _LATER)
