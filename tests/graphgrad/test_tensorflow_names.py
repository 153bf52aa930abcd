"""TensorFlow's parameters, by their names and in their order."""

import inspect

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import in_every_mode

X = [[1.0, -2.0], [3.0, 4.0]]

# As in TensorFlow 2.21; what follows these parameters may differ.
SIGNATURES = {
    "argsort": "values axis direction stable name",
    "boolean_mask": "tensor mask axis name",
    "clip_by_value": "t clip_value_min clip_value_max name",
    "concat": "values axis name",
    "cumsum": "x axis exclusive reverse name",
    "debugging.assert_none_equal": "x y summarize message name",
    "debugging.assert_scalar": "tensor message name",
    "einsum": "equation inputs",
    "expand_dims": "input axis name",
    "fill": "dims value name",
    "gather": "params indices validate_indices axis batch_dims name",
    "gather_nd": "params indices batch_dims name",
    "identity": "input name",
    "linalg.band_part": "input num_lower num_upper name",
    "linalg.diag": "diagonal name k num_rows num_cols padding_value align",
    "linalg.l2_normalize": "x axis epsilon name dim",
    "linalg.matvec": "a b transpose_a adjoint_a a_is_sparse b_is_sparse name",
    "linalg.set_diag": "input diagonal name k align",
    "math.cumulative_logsumexp": "x axis exclusive reverse name",
    "math.in_top_k": "targets predictions k name",
    "math.segment_sum": "data segment_ids name",
    "math.unsorted_segment_sum": "data segment_ids num_segments name",
    "matmul": "a b transpose_a transpose_b adjoint_a adjoint_b a_is_sparse b_is_sparse",
    "nn.atrous_conv2d": "value filters rate padding name",
    "nn.atrous_conv2d_transpose": "value filters output_shape rate padding name",
    "nn.avg_pool": "input ksize strides padding data_format name",
    "nn.avg_pool1d": "input ksize strides padding data_format name",
    "nn.avg_pool2d": "input ksize strides padding data_format name",
    "nn.avg_pool3d": "input ksize strides padding data_format name",
    "nn.batch_normalization": "x mean variance offset scale variance_epsilon name",
    "nn.bias_add": "value bias data_format name",
    "nn.conv1d": "input filters stride padding data_format dilations name",
    "nn.conv1d_transpose": "input filters output_shape strides padding data_format dilations name",
    "nn.conv2d": "input filters strides padding data_format dilations name",
    "nn.conv2d_transpose": "input filters output_shape strides padding data_format dilations name",
    "nn.conv3d": "input filters strides padding data_format dilations name",
    "nn.conv3d_transpose": "input filters output_shape strides padding data_format dilations name",
    "nn.conv_transpose": "input filters output_shape strides padding data_format dilations name",
    "nn.convolution": "input filters strides padding data_format dilations name",
    "nn.max_pool": "input ksize strides padding data_format name",
    "nn.max_pool1d": "input ksize strides padding data_format name",
    "nn.max_pool2d": "input ksize strides padding data_format name",
    "nn.max_pool3d": "input ksize strides padding data_format name",
    "nn.max_pool_with_argmax": "input ksize strides padding data_format output_dtype "
    "include_batch_in_index name",
    "nn.pool": "input window_shape pooling_type strides padding data_format dilations name",
    "nn.depthwise_conv2d": "input filter strides padding data_format dilations name",
    "nn.embedding_lookup": "params ids max_norm name",
    "nn.gelu": "features approximate name",
    "nn.leaky_relu": "features alpha name",
    "nn.moments": "x axes shift keepdims name",
    "nn.separable_conv2d": "input depthwise_filter pointwise_filter strides padding data_format",
    "nn.softmax_cross_entropy_with_logits": "labels logits axis name",
    "nn.sparse_softmax_cross_entropy_with_logits": "labels logits name",
    "one_hot": "indices depth on_value off_value axis dtype name",
    "pad": "tensor paddings mode constant_values name",
    "random.categorical": "logits num_samples dtype seed name",
    "random.fold_in": "seed data alg",
    "random.normal": "shape mean stddev dtype seed name",
    "random.split": "seed num alg",
    "random.stateless_normal": "shape seed mean stddev dtype name alg",
    "random.stateless_truncated_normal": "shape seed mean stddev dtype name alg",
    "random.stateless_uniform": "shape seed minval maxval dtype name alg",
    "random.uniform": "shape minval maxval dtype seed name",
    "reduce_sum": "input_tensor axis keepdims name",
    "repeat": "input repeats axis name",
    "roll": "input shift axis name",
    "scatter_nd": "indices updates shape",
    "sort": "values axis direction name",
    "split": "value num_or_size_splits axis num name",
    "squeeze": "input axis name",
    "stack": "values axis name",
    "stop_gradient": "input name",
    "strided_slice": "input_ begin end strides begin_mask end_mask ellipsis_mask new_axis_mask "
    "shrink_axis_mask var name",
    "tensor_scatter_nd_update": "tensor indices updates",
    "tensordot": "a b axes name",
    "tile": "input multiples name",
    "transpose": "a perm conjugate name",
    "unstack": "value num axis name",
    "where": "condition x y name",
}


def found(name):
    value = gg
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", SIGNATURES)
def test_order_of_parameters(name):
    wanted = SIGNATURES[name].split()
    assert list(inspect.signature(found(name)).parameters)[: len(wanted)] == wanted


@in_every_mode
def test_names_that_calls_give(mode):
    x = np.array(X, np.float32)
    calls = [
        (lambda x: gg.identity(input=x, name="i"), x),
        (lambda x: gg.stop_gradient(input=x), x),
        (lambda x: gg.matmul(a=x, b=x, b_is_sparse=True, name="p"), x @ x),
        (lambda x: gg.linalg.l2_normalize(x, axis=0), x / np.sqrt((x * x).sum(0))),
        (lambda x: gg.nn.embedding_lookup(params=x, ids=[[1], [0]]), x[[[1], [0]]]),
        (lambda x: gg.nn.embedding_lookup(x, [1], 1.0), [[0.6, 0.8]]),
    ]
    for f, expected in calls:
        np.testing.assert_allclose(mode(f)(gg.constant(X)), expected, rtol=1e-6)


def test_embedding_rows_have_derivatives():
    with gg.GradientTape() as tape:
        table = gg.Variable(X)
        y = gg.reduce_sum(gg.nn.embedding_lookup(table, [1, 1]))
    np.testing.assert_array_equal(gg.convert_to_tensor(tape.gradient(y, table)), [[0, 0], [2, 2]])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [((), gg.float32), ((5, 1), gg.int32), ((2.0, 1.0), gg.float32), ((True, False), gg.bool)],
)
def test_values_of_one_hot_give_its_dtype(values, dtype):
    assert gg.one_hot([1], 2, *values).dtype is dtype
    assert gg.one_hot([1], 2, *values, dtype=gg.float64).dtype is gg.float64


def test_shapes_that_are_set_are_checked():
    x = gg.constant(X)
    assert x.set_shape([None, 2]) is None
    with pytest.raises(gg.errors.ShapeError, match=r"f32\[2, 2\] does not fit \[3, 2\]"):
        x.set_shape([3, 2])


def test_assertions_take_their_message_by_place():
    with pytest.raises(gg.errors.AssertionFailed, match="mine"):
        gg.debugging.assert_none_equal([1], [1], 3, "mine")
    with pytest.raises(gg.errors.ShapeError, match="mine"):
        gg.debugging.assert_scalar([1], "mine")
