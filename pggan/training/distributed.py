"""Several processes with a device each: who they are, and one flat sum of everything that they found.

No DDP wrapper: its hooks do not know of second derivatives, and the gradient penalty is one.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
import torch.distributed.nn.functional  # see `join`
from torch import Tensor

from datatools.errors import DataError

PATIENCE = timedelta(hours=2)
"""So long processes wait for each other: while the leader measures or writes, the others are in their next step."""


@dataclass(frozen=True)
class Team:
    """This process among `size` ones. The leader, rank 0, is the only one that writes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by their sums over all processes: one transfer, bit for bit the same everywhere."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def agree(self, value: Any) -> Any:
        """Return the leader's value, on every process."""
        if self.size == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            torch.distributed.barrier()


@contextmanager
def join(device: torch.device) -> Iterator[Team]:
    """Yield the team that torchrun started, or this process alone; with CUDA every process takes a device of its own.

    Modules of torch.distributed hold the group in default arguments when they are first imported while there is one
    (torch's optimizers import them); its threads would then outlive it, and now and then abort the process at its end.
    This module therefore imports them before.
    """
    size = world_size()
    if size == 1:
        yield Team()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    own = device if device.type == "cuda" else None  # NCCL would guess it by the rank
    torch.distributed.init_process_group(backend, timeout=PATIENCE, device_id=own)
    finished = False
    try:
        yield Team(torch.distributed.get_rank(), size)
        finished = True
    finally:
        if own and not finished:  # NCCL would wait for the others, which wait for this process until torchrun ends them
            torch.distributed.group.WORLD.abort()  # type: ignore[union-attr]
        else:
            torch.distributed.destroy_process_group()


def world_size() -> int:
    """Return the number of processes that torchrun started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number among those that torchrun started, 0 without it."""
    return int(os.environ.get("RANK", "0"))


def local_processes() -> int:
    """Return the number of processes of this team on this machine, whose cores they share."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def choose_device(name: str) -> torch.device:
    """Return the device called auto, cpu, cuda or mps; torchrun's processes take one CUDA device each."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if not torch.cuda.is_available():
            raise DataError("--device cuda: torch finds no CUDA device here; use --device cpu, or install a CUDA build")
        if local >= torch.cuda.device_count():
            raise DataError(f"--nproc-per-node: {local + 1} processes for {torch.cuda.device_count()} CUDA devices")
        return torch.device("cuda", local)
    if name == "mps" and not torch.backends.mps.is_available():
        raise DataError("--device mps: torch finds no Apple GPU here; use --device cpu")
    return torch.device(name)
