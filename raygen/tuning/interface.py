"""The network between the workers of a DDP trial: the one through which Ray reaches their nodes.

Gloo looks up the machine's own host name, which often is 127.0.1.1; NCCL takes the first interface
that is up, which may be Docker's bridge. Both then wait for a peer that never comes.
"""

import fcntl
import os
import socket
import struct
from typing import Any

import ray
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from ray.util.placement_group import remove_placement_group

SIOCGIFADDR = 0x8915  # ioctl: the IPv4 address of an interface


def interface_of(address: str) -> str | None:
    """Return the name of the interface that has an IPv4 address; None if none has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(asked, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has no IPv4 address
                continue
            if socket.inet_ntoa(reply[20:24]) == address:
                return name
    return None


def choose_interface() -> None:
    """Name the interface to gloo and NCCL in this process, unless its environment does."""
    name = interface_of(ray.util.get_node_ip_address())
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # =: no other that begins so


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Form the process group; where that fails, give back what its workers hold.

        Ray Train leaves it to an actor that asks the dashboard whether the group has ended: where
        none runs, what failed would be held for ever, and every attempt after it would wait.
        """
        try:
            worker_group.execute(choose_interface)
            super().on_start(worker_group, backend_config)
        except BaseException:
            handle = worker_group.get_worker_group_state().placement_group_handle
            remove_placement_group(handle.placement_group)
            raise

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Leave the process group alone; it ends with its processes, which Ray ends next.

        Ray Train destroys it in the survivors of a killed worker while they still train: each
        would then take itself for rank 0 of a world of one, and its error for the trial's own.
        """


class OverRaysNetwork(TorchConfig):
    """The process group of Ray Train over the network that Ray itself uses."""

    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend
