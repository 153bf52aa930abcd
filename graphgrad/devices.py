"""Where operations run: `gg.device` scopes and the lists of devices, by TensorFlow's names."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.source import here
from graphgrad.runtime.device import Device, is_available, parse_device, physical_devices

_KINDS = {"cpu": "CPU", "cuda": "GPU"}


@dataclass(frozen=True)
class PhysicalDevice:
    """A device of this machine, printed as TensorFlow does."""

    name: str
    device_type: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, device_type={self.device_type!r})"


class LogicalDevice(PhysicalDevice):
    """A device as programs name it."""


class _Settings:
    soft = True
    log = False


def _found(device_type: str | None) -> list[tuple[str, int]]:
    found = [(_KINDS[d.kind], d.index) for d in physical_devices()]
    return [(kind, index) for kind, index in found if device_type in (None, kind)]


def list_physical_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    """The devices of this machine, all or of one type ("CPU", "GPU").

    >>> import graphgrad as gg
    >>> gg.config.list_physical_devices("CPU")
    [PhysicalDevice(name='/physical_device:CPU:0', device_type='CPU')]
    """
    return [PhysicalDevice(f"/physical_device:{k}:{i}", k) for k, i in _found(device_type)]


def list_logical_devices(device_type: str | None = None) -> list[LogicalDevice]:
    """The devices as programs name them, all or of one type ("CPU", "GPU").

    >>> import graphgrad as gg
    >>> gg.config.list_logical_devices("GPU")
    []
    """
    return [LogicalDevice(f"/device:{k}:{i}", k) for k, i in _found(device_type)]


def get_visible_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    """The devices that programs may use: all of this machine."""
    return list_physical_devices(device_type)


def set_soft_device_placement(enabled: bool) -> None:
    """Should `gg.device` of a device that does not exist mean the CPU (the default), or raise?

    >>> import graphgrad as gg
    >>> gg.config.set_soft_device_placement(True)
    """
    _Settings.soft = bool(enabled)


def get_soft_device_placement() -> bool:
    """Does a device that does not exist mean the CPU?"""
    return _Settings.soft


def set_log_device_placement(enabled: bool) -> None:
    """Should each `gg.device` scope say on standard error where its operations run?"""
    _Settings.log = bool(enabled)


def get_log_device_placement() -> bool:
    """Do scopes say where their operations run?"""
    return _Settings.log


def full_name(device: Device) -> str:
    """The name as tensors show it: /job:localhost/replica:0/task:0/device:CPU:0."""
    return f"/job:localhost/replica:0/task:0/device:{_KINDS[device.kind]}:{device.index}"


class device:  # used as a function
    """A scope whose operations run on the named device: "cpu", "/GPU:0", or None for no wish.

    A device that does not exist means the CPU, unless `gg.config.set_soft_device_placement(False)`
    was called: then it is an ArgumentError, which lists those that do.

    >>> import graphgrad as gg
    >>> with gg.device("/gpu:0"):
    ...     x = gg.constant(1.0)
    >>> x.device
    '/job:localhost/replica:0/task:0/device:CPU:0'
    """

    def __init__(self, device_name: Any) -> None:
        self.name = device_name
        if device_name is None:
            return
        name = getattr(device_name, "name", device_name)
        if not isinstance(name, str):
            raise ArgumentError(f"device: {name!r} is no name of a device", here())
        try:
            wanted = parse_device(name.replace("/physical_device:", "/device:"))
        except ValueError as e:
            raise ArgumentError(str(e), here()) from None
        if not is_available(wanted) and not _Settings.soft:
            names = ", ".join(full_name(d) for d in physical_devices())
            raise ArgumentError(f"there is no device {name!r}; this machine has: {names}", here())
        if _Settings.log:
            used = wanted if is_available(wanted) else physical_devices()[0]
            print(f"device {name}: operations run on {full_name(used)}", file=sys.stderr)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        return None
