"""Run by `test_parallel.py`: a program with threads that starts others of its kind.

python -m tests.graphgrad.many_processes fork|spawn|forkserver
"""

import multiprocessing
import sys

import numpy as np

import graphgrad as gg

X = np.random.default_rng(0).normal(size=(600, 500)).astype(np.float32)


def softmax(k):
    return np.asarray(gg.function(lambda x: gg.nn.softmax(x * float(k)))(X)).tobytes()


def main(method):
    gg.config.threading.set_intra_op_parallelism_threads(3)
    before = [softmax(k) for k in range(4)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map_async(softmax, range(4))
        assert [softmax(k) for k in range(4)] == before
        assert found.get(timeout=90) == before


if __name__ == "__main__":
    main(sys.argv[1])
