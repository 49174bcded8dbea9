"""Two network namespaces as two machines, with a relay between them that delays every packet; for root on Linux."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


NAMES = ("hfsp0", "hfsp1")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


@contextmanager
def two_namespaces(seconds: float) -> Iterator[tuple[list[tuple[list[str], dict[str, str]]], str]]:
    """Make two machines that reach each other through a relay.

    Args:
        seconds: What the relay adds to each packet's way.

    Yields:
        For each machine what a command on it begins with and its environment; and the address of the first.
    """
    devices: list[int] = []
    ended = threading.Event()
    thread = threading.Thread(target=relay, args=(devices, seconds, ended))
    try:
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            run("ip", "netns", "add", name)
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
            devices.append(device)
            run("ip", "link", "set", name, "netns", name)  # the open file stays the device's other end
            within = ("ip", "netns", "exec", name, "ip")
            run(*within, "addr", "add", f"{address}/24", "dev", name)
            run(*within, "link", "set", name, "up")
            run(*within, "link", "set", "lo", "up")
        thread.start()
        machines = [(["ip", "netns", "exec", name], {"GLOO_SOCKET_IFNAME": name}) for name in NAMES]
        yield machines, ADDRESSES[0]
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
        for device in devices:
            os.close(device)
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def relay(devices: list[int], seconds: float, ended: threading.Event) -> None:
    """Hand the packets of each device on to the other, so many seconds later."""
    waiting: deque[tuple[float, int, bytes]] = deque()
    while not ended.is_set():
        timeout = max(0.0, waiting[0][0] - monotonic()) if waiting else 0.1
        for device in select.select(devices, [], [], timeout)[0]:
            packet = os.read(device, 65536)
            waiting.append((monotonic() + seconds, devices[1 - devices.index(device)], packet))
        while waiting and waiting[0][0] <= monotonic():
            _, device, packet = waiting.popleft()
            os.write(device, packet)


def run(*command: str) -> None:
    subprocess.run(command, check=True)
