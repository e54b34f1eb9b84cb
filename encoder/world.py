"""The processes of one run: alone, or several as ``torchrun`` starts them, each with its share of every batch.

Any number of them takes the same steps: rows and their views are drawn by piece of the batch, whoever draws
them, and what is taken over the whole batch is gathered from all.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from broker.errors import SettingsError


@dataclass(frozen=True, slots=True)
class World:
    """Which process this is, of how many.

    Attributes
    ----------
    rank, size : int
    device : str
        Where the networks run.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this one writes checkpoints and shows the progress."""
        return self.rank == 0

    def share(self, pieces: int) -> range:
        """Pieces of a batch that are this process's, next to each other.

        Raises
        ------
        SettingsError
            They cannot be shared evenly.
        """
        if pieces % self.size:
            raise SettingsError(
                f"a batch of {pieces} pieces cannot be shared by {self.size} processes: start as many as divide it, "
                "or give the recipe other pieces"
            )
        mine = pieces // self.size
        return range(self.rank * mine, (self.rank + 1) * mine)

    def gather(self, rows: Tensor) -> Tensor:
        """Rows (n, ...) of all processes, in their order; gradients flow back to where rows came from."""
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows.contiguous(), self)
        return gathered

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes of a value without gradient."""
        if self.size == 1:
            return value
        summed = value.detach().clone()
        distributed.all_reduce(summed)
        return summed

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes, in one message."""
        if self.size == 1:
            return
        gradients = [one.grad for one in parameters if one.grad is not None]
        flat = torch.cat([one.flatten() for one in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        for one, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            one.copy_(mean.view_as(one))

    def decides(self, *, decision: bool) -> bool:
        """Say what the leader decided."""
        if self.size == 1:
            return decision
        said = torch.tensor(float(decision), device=self.device)
        distributed.broadcast(said, 0)
        return bool(said)


ALONE = World()

BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""What torch calls instructions for bfloat16, of x86 and of ARM."""


def computes_in_bf16(device: str) -> bool:
    """Whether a device has instructions for bfloat16: a processor without them took sixteen times as long for a step.

    Parameters
    ----------
    device : str
        Kind of device: ``cpu``, ``cuda``; of others nothing is known.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    found: Mapping[str, object] = torch.cpu.get_capabilities()
    return any(found.get(name) for name in BF16)


class _Gather(torch.autograd.Function):
    """All-gather whose backward adds up what every process sends back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.world, ctx.count = world, len(rows)
        parts = [torch.empty_like(rows) for _ in range(world.size)]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = ctx.world.total(gradients[0].contiguous())
        return summed[ctx.world.rank * ctx.count :][: ctx.count], None


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that ``torchrun`` has started; alone where it was not used."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ:
        yield World(device="cuda" if cuda else "cpu")
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        device = f"cuda:{local}" if cuda else "cpu"
        yield World(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()
