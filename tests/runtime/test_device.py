"""Names of devices."""

import pytest

from graphgrad.runtime.device import CPU, Device, is_available, parse_device, physical_devices


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("cpu", CPU),
        ("CPU:0", CPU),
        ("/cpu:0", CPU),
        ("/job:localhost/replica:0/task:0/device:CPU:0", CPU),
        ("cuda", Device("cuda", 0)),
        ("cuda:1", Device("cuda", 1)),
        ("/GPU:2", Device("cuda", 2)),
        ("/device:GPU:0", Device("cuda", 0)),
    ],
)
def test_names_are_parsed(name, device):
    assert parse_device(name) == device
    assert parse_device(str(device)) == device


@pytest.mark.parametrize("name", ["", "tpu:0", "cpu:", "cuda:x", "my cpu"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="names no device"):
        parse_device(name)


def test_only_the_cpu_exists():
    assert physical_devices() == (CPU,)
    assert physical_devices("cpu") == (CPU,)
    assert physical_devices("cuda") == ()
    assert is_available(CPU)
    assert not is_available(Device("cpu", 1))
    assert not is_available(Device("cuda"))
