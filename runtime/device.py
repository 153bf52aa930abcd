"""The devices of this process: what they are called, and which there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = (
    r"(?:/?(?:job:localhost/)?(?:replica:0/)?(?:task:0/)?(?:device:)?)?"
    r"(?P<kind>cpu|gpu|cuda)(?::(?P<index>\d+))?"
)


@dataclass(frozen=True, slots=True)
class Device:
    """A device: its kind, "cpu" or "cuda", and its number among those of its kind."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"{self.kind}:{self.index}"


CPU = Device("cpu")


def parse_device(name: str) -> Device:
    """The device that `name` means, whether it exists or not; TensorFlow's spellings count too.

    >>> parse_device("cpu"), str(parse_device("/device:GPU:0"))
    (Device(kind='cpu', index=0), 'cuda:0')
    """
    match = re.fullmatch(_NAME, name, re.IGNORECASE)
    if match is None:
        raise ValueError(f"{name!r} names no device; a name is cpu, cuda:0 or /GPU:0")
    kind = "cpu" if match["kind"].lower() == "cpu" else "cuda"
    return Device(kind, int(match["index"] or 0))


def physical_devices(kind: str | None = None) -> tuple[Device, ...]:
    """The devices that exist, of one kind or all. Programs run on the CPU alone so far.

    >>> physical_devices(), physical_devices("cuda")
    ((Device(kind='cpu', index=0),), ())
    """
    return (CPU,) if kind in (None, "cpu") else ()


def is_available(device: Device) -> bool:
    """Whether Programs can run on `device`."""
    return device in physical_devices(device.kind)
