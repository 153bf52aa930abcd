"""graphgrad: a graph-compiling autodiff framework with TensorFlow 2's face.

>>> import graphgrad as gg
>>> x = gg.Variable(3.0)
>>> with gg.GradientTape() as tape:
...     y = x * x
>>> tape.gradient(y, x).numpy()
np.float32(6.0)
"""

__version__ = "0.1.0"

from graphgrad import config, errors, linalg, math, nest, nn, random, slices, testing
from graphgrad.batching import vmap
from graphgrad.compiler.dtypes import (
    DType,
    as_dtype,
    bfloat16,
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
from graphgrad.control import cond, while_loop
from graphgrad.creation import (
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
    size,
    zeros,
    zeros_like,
)
from graphgrad.custom import custom_gradient, grad_pass_through
from graphgrad.decorator import eval_shape, function
from graphgrad.function import Function
from graphgrad.measurement import Roofline, roofline
from graphgrad.public import exported
from graphgrad.signature import TensorSpec
from graphgrad.tape import GradientTape, UnconnectedGradients
from graphgrad.tensor import Tensor, TensorShape
from graphgrad.transforms import grad, jvp, value_and_grad, vjp
from graphgrad.variable import Variable

globals().update({k: v for k, v in exported("").items() if k not in globals()})
double, half = float64, float16
newaxis = None

__all__ = [
    "DType",
    "Function",
    "GradientTape",
    "Roofline",
    "Tensor",
    "TensorShape",
    "TensorSpec",
    "UnconnectedGradients",
    "Variable",
    "as_dtype",
    "bfloat16",
    "bool",
    "cond",
    "config",
    "constant",
    "convert_to_tensor",
    "custom_gradient",
    "double",
    "ensure_shape",
    "errors",
    "eval_shape",
    "eye",
    "fill",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "function",
    "grad",
    "grad_pass_through",
    "half",
    "int16",
    "int32",
    "int64",
    "int8",
    "is_tensor",
    "jvp",
    "linalg",
    "linspace",
    "math",
    "nest",
    "newaxis",
    "nn",
    "ones",
    "ones_like",
    "random",
    "range",
    "rank",
    "roofline",
    "shape",
    "size",
    "slices",
    "testing",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
    "zeros",
    "zeros_like",
]
__all__ += sorted(exported(""))
