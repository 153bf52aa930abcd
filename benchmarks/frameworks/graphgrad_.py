"""graphgrad's words."""

import graphgrad as gg
from benchmarks.frameworks.tensorflow_face import TensorFlowFace

words = TensorFlowFace(gg, gg.function)
