"""Several processes that train one network together, started by torchrun, on PyTorch's own engine.

Each process takes its share of every batch, so that the steps are those of a single process. The loss of a share is
weighted by what the share counts in the whole batch and gradients are added up, not averaged: shares of different
sizes come out right.

DDP (Li et al. 2020, arXiv:2006.15704) keeps a copy of the network in each process. FSDP2, after ZeRO (Rajbhandari et
al. 2020, arXiv:1910.02054), spreads parameters, gradients and the optimizer's state over all of them.
"""

from __future__ import annotations

import atexit
import copy
import gc
import json
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from sounding.batches import Batch, Batches
from sounding.errors import DamagedError, RecipeError, UserError
from sounding.recipe import TrainingRecipe
from sounding.training.checkpoint import (
    STATE,
    TEMPORARY,
    TensorSets,
    _entries,
    _flush_folder,
    _make_folder,
    _prune,
    verify_manifest,
    write_manifest,
)

TIMEOUT = timedelta(minutes=30)
"""A process that hears nothing from the others for so long gives up; one that died is noticed at once."""

Value = TypeVar("Value")


class Processes:
    """The processes that train together, seen from one of them; alone, every method does nothing.

    What they tell each other about the training (losses, flags, outputs) passes between the CPUs by gloo; gradients
    take the way of the network's device. Every method is to be called by all processes, in the same order.

    >>> alone = Processes()
    >>> alone.first, alone.any(True, False), alone.sum(torch.ones(2))
    (True, [True, False], tensor([1., 1.]))
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.idle = False
        """Whether the share of the present batch is empty: what is computed from it must count nowhere."""
        self._engine: DistributedDataParallel | None = None
        self._sums_itself = False

    @property
    def group(self) -> dist.ProcessGroup | None:
        """By which the CPUs talk."""
        return None if self.count == 1 else _control_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    @property
    def place(self) -> tuple[int, ...]:
        """What random draws depend on in each process but the first, which draws what it would draw alone."""
        return () if self.first else (self.rank,)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes of a small tensor."""
        if self.count == 1:
            return tensor
        total = tensor.detach().to("cpu", copy=True)
        dist.all_reduce(total, group=self.group)
        return total

    def total(self, number: float) -> float:
        """The sum over all processes of a number."""
        return number if self.count == 1 else self.sum(torch.tensor(number, dtype=torch.float64)).item()

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is up in any process."""
        return list(flags) if self.count == 1 else self.sum(torch.tensor(flags, dtype=torch.int32)).bool().tolist()

    def agreed(self, value: Value) -> Value:
        """What the first process says, a plain JSON value."""
        if self.count == 1:
            return value
        text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor(len(text))
        dist.broadcast(length, 0, group=self.group)
        text = text if self.first else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(text, 0, group=self.group)
        said: Value = json.loads(bytes(text.tolist()))
        return said

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.any(False)

    def gather(self, rows: Tensor) -> Tensor:
        """The (M, ...) rows that each process has, in the order of the processes, as one tensor in each of them."""
        if self.count == 1:
            return rows
        mine = rows.detach().cpu().contiguous()
        lengths = self.sum(torch.eye(self.count, dtype=torch.int64)[self.rank] * len(mine)).tolist()
        padded = mine.new_zeros((max(lengths), *mine.shape[1:]))
        padded[: len(mine)] = mine
        pieces = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(pieces, padded, group=self.group)
        return torch.cat([piece[:length] for piece, length in zip(pieces, lengths, strict=True)])

    def filled(self, batches: Batches, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch; an empty share has a row of the data in its place, and no number of a row.

        So every process goes forward and backward in every step, which the others wait for.
        """
        if self.count == 1:
            yield from batches.epoch(epoch, start_step=start_step)
            return
        before: Batch | None = None
        try:
            for batch in batches.epoch(epoch, start_step=start_step):
                self.idle = not len(batch.rows)
                if not self.idle:
                    before = batch
                yield _stand_in(before, batches) if self.idle else batch
        finally:
            self.idle = False

    def later(self) -> AbstractContextManager[None]:
        """Gradients that come inside are kept, and added up with those that come after."""
        engine = self._engine
        return nullcontext() if engine is None else engine.no_sync()

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients of all processes, where the engine has not done so in the backward pass."""
        if self.count == 1 or self._sums_itself:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
            for gradient, piece in zip(gradients, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    @contextmanager
    def joined(self, network: nn.Module, sharding: str, *, wrap: bool = True) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The network as all processes train it together, beginning from the weights that the first one has.

        sharding: `none` for DDP, or `full` for FSDP2.
        wrap:     whether all of the network is called at once, so that DDP can watch over its backward pass; else
                  gradients are to be added up by `sum_gradients`.
        Yields:   what is trained, and what is to be called in training. With `full` the first is a copy; the network
                  itself takes its weights over when nothing was raised.
        """
        if self.count == 1:
            yield network, network
            return
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)
        try:
            if sharding == "full":
                sharded = _sharded(copy.deepcopy(network), self.count)
                self._sums_itself = True
                with _joined_batch_norms(sharded, self):
                    yield sharded, sharded
                network.load_state_dict({name: whole(tensor) for name, tensor in sharded.state_dict().items()})
                return
            with _joined_batch_norms(network, self), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*broadcast_buffers.* is deprecated")  # not in all versions
                if wrap:
                    # A network may have parameters that a loss does not depend on; alone they are left as they are.
                    self._engine = DistributedDataParallel(
                        _Watched(network),
                        find_unused_parameters=True,
                        gradient_as_bucket_view=True,
                        broadcast_buffers=False,
                        init_sync=False,
                    )
                    self._engine.register_comm_hook(None, _summed)
                    self._sums_itself = True
                yield network, self._engine if self._engine is not None else network
        except RuntimeError as error:
            if not any(word in str(error) for word in ("gloo", "NCCL")):
                raise
            raise UserError(
                "another process of this training is gone",
                "see what it said; with --max-restarts torchrun starts all again, and they go on",
            ) from error
        finally:
            self._engine, self._sums_itself = None, False


def join(device: torch.device) -> tuple[Processes, torch.device]:
    """The processes that torchrun started, or a script that called `init_process_group`; alone without either.

    Returns: them, and the device of this one: each process of a machine has a GPU of its own.

    Raises:
        RecipeError: if there are more processes than GPUs.
    """
    launched = dist.is_available() and (dist.is_initialized() or dist.is_torchelastic_launched())
    if not launched or (not dist.is_initialized() and os.environ["WORLD_SIZE"] == "1"):
        return Processes(), device
    if str(device) == "cuda":  # any of them
        index = int(os.environ.get("LOCAL_RANK", "0"))
        if index >= torch.cuda.device_count():
            raise RecipeError(
                f"process {index + 1} of this machine has no GPU of its own: there are {torch.cuda.device_count()}",
                "start fewer with --nproc-per-node, or train with training.device=cpu",
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        store, rank, count = _meet()
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank, world_size=count)
        atexit.register(_leave)
        _share_cores()
    processes = Processes(dist.get_rank(), dist.get_world_size())
    return (processes if processes.count > 1 else Processes()), device


def check_together(recipe: TrainingRecipe, has_optimizer: bool, has_players: bool) -> None:
    """Refuse what several processes cannot do.

    Raises:
        RecipeError: naming the field of the recipe.
    """
    if recipe.compile:
        raise RecipeError("several processes do not train a compiled step", "set training.compile=false")
    if recipe.release:
        raise RecipeError(
            "several processes do not release layers one after the other",
            "train all from the start: transfer.release=0, and no training.release",
        )
    if recipe.sharding == "none":
        return
    own = "players" if has_players else "an optimizer of their own" if has_optimizer else ""
    if own:
        raise RecipeError(
            f"sharding replaces the parameters, which {own} would not see", "leave training.sharding=none"
        )
    if recipe.optimizer.name == "muon":
        raise RecipeError("muon needs whole matrices", "take adamw, or training.sharding=none")
    if recipe.precision == "float16" or recipe.averaging != "none" or recipe.l1 or recipe.l2:
        raise RecipeError(
            "with training.sharding=full there is no precision float16, no averaging, no l1 and no l2",
            "use bfloat16, weight_decay, or training.sharding=none",
        )


def launch() -> str:
    """What names this start of torchrun, in all its processes and after a restart of them; empty without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    # Without a rendezvous every start is called "none": then it is the one process that starts all others.
    return f"{name} {os.uname().nodename} {os.getppid()}" if name == "none" else name


def restarted() -> bool:
    """Whether torchrun started this process in the place of one that failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _meet() -> tuple[Store, int, int]:
    """A store in which these processes find each other, and nobody else; the rank of this one, and how many there are.

    torchrun keeps one store while it starts processes again, and the addresses of those that are gone lie in it. So
    the first process names the meeting anew and gives the name to each of the others, who ask by a name of their own.
    """
    store, rank, count = next(rendezvous("env://", timeout=TIMEOUT))
    name, absent, until = secrets.token_hex(8), set(range(1, count)), time.monotonic() + TIMEOUT.total_seconds()
    if rank > 0:
        store.set(f"asks/{rank}", name)
        answer = f"answer/{name}"
        name = store.get(answer).decode()
        store.set(f"{name}/{rank}", "here")
        absent.clear()
    while absent and time.monotonic() < until:
        for other in absent:
            if store.check([f"asks/{other}"]):  # perhaps by one that is gone: whoever came in its place asks again
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", name)
        absent = {other for other in absent if not store.check([f"{name}/{other}"])}
        time.sleep(0.01)
    return PrefixStore(name, store), rank, count


@cache
def _control_group() -> dist.ProcessGroup:
    """Messages between CPUs, in the way of no gradient."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=TIMEOUT)
    return group


def _leave() -> None:
    """Let threads come to rest: one of gloo that wants the interpreter while that ends would abort the process."""
    _control_group.cache_clear()
    gc.collect()  # engines are in cycles
    if dist.is_initialized():
        dist.destroy_process_group()
    time.sleep(0.05)  # PyTorch keeps the threads of the first group; they have but tensors of the last sum to let go


def _share_cores() -> None:
    """Divide the cores of this machine among its processes; torchrun gives each a single one if nothing was said."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _stand_in(batch: Batch | None, batches: Batches) -> Batch:
    """One row of an earlier batch, or of the first of all, as a batch that counts nowhere."""
    if batch is None:
        with closing(batches.shared(0, 1).epoch(0)) as everything:  # type: ignore[type-var]
            batch = next(iter(everything))
    return Batch(
        tuple(tensor[:1] for tensor in batch.inputs),
        None if batch.target is None else batch.target[:1],
        None if batch.weight is None else batch.weight[:1],
        batch.rows[:0],
    )


class _Watched(nn.Module):
    """A network with one more parameter that is never used: DDP, which looks for such, warns where it finds none."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.unused = nn.Parameter(next(network.parameters()).detach().new_zeros(1))

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the network makes of it."""
        outputs: Tensor = self.network(*inputs)
        return outputs


def _summed(state, bucket):  # type: ignore[no-untyped-def]  # DDP does not understand annotations that are strings
    """How DDP joins the gradients of the processes: their sum."""
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])


# Batch norms.


@contextmanager
def _joined_batch_norms(network: nn.Module, processes: Processes) -> Iterator[None]:
    """Batch norms take their statistics from the rows of all processes, as a single process would."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]

    def forward(norm: _BatchNorm, inputs: Tensor) -> Tensor:
        if norm.training or norm.running_mean is None:
            return _normalized(norm, inputs, processes)
        return type(norm).forward(norm, inputs)

    for norm in norms:
        norm.forward = MethodType(forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalized(norm: _BatchNorm, inputs: Tensor, processes: Processes) -> Tensor:
    """Batch normalization of (B, C, ...) over the rows of all processes (Ioffe and Szegedy 2015, arXiv:1502.03167).

    `nn.SyncBatchNorm` does it on GPUs alone, and cannot leave out a row that counts nowhere.
    """
    norm._check_input_dim(inputs)  # type: ignore[no-untyped-call]
    values = inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs
    others = [dimension for dimension in range(values.ndim) if dimension != 1]
    shape = (1, -1, *[1] * (values.ndim - 2))
    counts = 0.0 if processes.idle else 1.0
    count = values.new_tensor([counts * values.numel() / values.shape[1]])
    sums = _summed_over_processes(torch.cat([count, counts * values.sum(others)]))
    count, mean = sums[:1].detach(), sums[1:] / sums[:1].detach()
    centred = values - mean.view(shape)
    variance = _summed_over_processes(counts * centred.square().sum(others)) / count
    tracked = norm.num_batches_tracked
    if norm.training and norm.running_mean is not None and norm.running_var is not None and tracked is not None:
        with torch.no_grad():
            tracked += 1
            share = 1.0 / float(tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
            norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), share)
    outputs = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        outputs = outputs * norm.weight.view(shape) + norm.bias.view(shape)
    return outputs.to(inputs.dtype)


def _summed_over_processes(tensor: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; what flows back is the sum of what flows back in each of them."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


# FSDP2, and its checkpoints.


def _sharded(network: nn.Module, count: int) -> nn.Module:
    """Spread the parameters over the processes: block by block, so that one is gathered while another works."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(next(network.parameters()).device.type, (count,))
    uses = [
        parameter for module in network.modules() for parameter in module._parameters.values() if parameter is not None
    ]
    tied = len(uses) > len(list(network.parameters()))
    for block in [] if tied else _blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum, not a mean; and as one to gloo, too
            module.set_force_sum_reduction_for_comms(True)
    return network


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost members of sequences and lists that have parameters."""
    for child in module.children():
        if isinstance(module, nn.Sequential | nn.ModuleList) and not isinstance(child, nn.ModuleList | nn.ModuleDict):
            if next(child.parameters(), None) is not None:
                yield child
        else:
            yield from _blocks(child)


def is_spread(tensor: Tensor) -> bool:
    """Whether this process has but its own piece of a tensor."""
    return hasattr(tensor, "full_tensor")  # a `DTensor`, whose import takes a second


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is spread over the processes, as a whole in each of them; any other as it is."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def save_shards(
    folder: Path, tensors: TensorSets, state: Any, *, keep: int, processes: Processes, labels: Sequence[str] = ()
) -> Path:
    """Write the next checkpoint of a network that is spread over processes: each writes what it has.

    As `checkpoint.save`, with safetensors files of PyTorch's distributed checkpoints in the place of one file for
    each set of tensors; any number of processes reads them back. The folder is one that all processes share.

    Raises:
        UserError: if it cannot be written; what was there stays as it was.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    temporary = folder / processes.agreed(f"{TEMPORARY}{secrets.token_hex(4)}")
    try:
        if processes.first:
            _make_folder(folder)
            temporary.mkdir()
        processes.wait()
        flat = {f"{file}/{name}": tensor for file, group in tensors.items() for name, tensor in group.items()}
        with _quiet():
            save(
                flat,
                storage_writer=HuggingFaceStorageWriter(str(temporary), save_distributed=True),
                process_group=processes.group,
                no_dist=processes.count == 1,
            )
        place = ""
        if processes.first:
            (temporary / STATE).write_text(json.dumps(state), encoding="utf-8")
            write_manifest(temporary)
            number = max((entry.number for entry in _entries(folder)), default=0) + 1
            place = "-".join([f"{number:06d}", *labels])
            temporary.rename(folder / place)  # from here on it is there
            _flush_folder(folder)
            _prune(folder, keep)
    except (OSError, CheckpointException) as error:
        raise UserError(
            f"the checkpoint could not be written: {error}",
            "look after the disk; all processes must see the same folder",
            file=folder,
        ) from error
    finally:
        if processes.first:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder / processes.agreed(place)


def state_of_shards(place: Path) -> tuple[dict[str, dict[str, Tensor]], Any]:
    """The state of a checkpoint whose files are whole; no tensors yet.

    Raises:
        DamagedError: if anything is not as it was written.
    """
    files = verify_manifest(place)
    try:
        return {}, json.loads(files[STATE])
    except (KeyError, ValueError) as error:
        raise DamagedError(f"cannot be read: {error}", file=place) from None


def load_shards(
    place: Path, like: Callable[[str, str], Tensor | None], processes: Processes
) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint of `save_shards`, whatever number of processes wrote it.

    like:  for a file and a name in it, the parameter that a tensor belongs to, if there is one: where that is spread
           over the processes, so is what is read, and each process reads its own piece alone.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    flat: dict[str, Tensor] = {}
    for key, entry in HuggingFaceStorageReader(str(place)).read_metadata().state_dict_metadata.items():
        assert isinstance(entry, TensorStorageMetadata)
        file, _, name = key.partition("/")
        model = like(file, name)
        size, dtype = entry.size, entry.properties.dtype
        if model is not None and model.shape == size:
            flat[key] = torch.zeros_like(model, dtype=dtype, requires_grad=False)
        else:
            flat[key] = torch.zeros(size, dtype=dtype)
    with _quiet():
        load(
            flat,
            storage_reader=HuggingFaceStorageReader(str(place)),
            process_group=processes.group,
            no_dist=processes.count == 1,
        )
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        file, _, name = key.partition("/")
        tensors.setdefault(file, {})[name] = tensor
    return tensors


@contextmanager
def _quiet() -> Iterator[None]:
    """A single process reads and writes them, too; no warning that it is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield
