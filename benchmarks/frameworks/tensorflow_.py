"""TensorFlow's words: `tf.function`, as it is without options."""

import tensorflow as tf

from benchmarks.frameworks.tensorflow_face import TensorFlowFace

words = TensorFlowFace(tf, tf.function)
