"""TensorFlow's words, compiled by XLA."""

import tensorflow as tf

from benchmarks.frameworks.tensorflow_face import TensorFlowFace

words = TensorFlowFace(tf, tf.function(jit_compile=True))
