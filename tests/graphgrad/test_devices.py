"""gg.device, the lists of devices, and gg.benchmark."""

import pytest

import graphgrad as gg


def test_devices():
    with gg.device("/gpu:0"):
        x = gg.ones([2]) * 2
    assert x.device == "/job:localhost/replica:0/task:0/device:CPU:0"
    with gg.device(None), gg.device("CPU:0"), gg.device("/job:localhost/device:cpu:0"):
        pass
    assert gg.config.list_logical_devices()[0].name == "/device:CPU:0"
    with pytest.raises(ValueError, match="names no device"):
        gg.device("elsewhere")
    gg.config.set_soft_device_placement(False)
    try:
        with pytest.raises(ValueError, match=r"this machine has: /job:localhost.*CPU:0"):
            gg.device("/gpu:0")
        with gg.device("/cpu:0"):
            pass
    finally:
        gg.config.set_soft_device_placement(True)


def test_device_placement_can_be_logged(capsys):
    gg.debugging.set_log_device_placement(True)
    try:
        with gg.device("/gpu:1"):
            pass
    finally:
        gg.debugging.set_log_device_placement(False)
    assert "operations run on /job:localhost" in capsys.readouterr().err


def test_benchmark_leaves_compiling_out():
    f = gg.function(lambda x: gg.reduce_sum(gg.sin(x) * 2.0))
    times = gg.benchmark(f, gg.ones([16]), seconds=0.05)
    assert f.experimental_get_tracing_count() == 1
    assert times.first > 20 * times.minimum
    assert times.calls >= times.batches > 3
    assert "a call at best" in str(times)
    with pytest.raises(ValueError, match="cannot be called"):
        gg.benchmark(3)
