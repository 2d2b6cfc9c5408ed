"""How the machine is used: device, threads, arithmetic, and where the rows lie."""

from __future__ import annotations

import copy
import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sounding.batches import Batches
from sounding.errors import RecipeError, nearest
from sounding.recipe import TrainingRecipe


def find_device(name: str) -> torch.device:
    """The device of a name; `auto` is the fastest there is.

    Raises:
        RecipeError: naming what there is, if it is not there.
    """
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if name == "auto":
        return torch.device(there[-1])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f'"{name}" is not a device', nearest(name, there)) from None
    if device.type not in there:
        raise RecipeError(f'there is no device "{name}" here', f"take one of: {', '.join(there)}")
    return device


@contextmanager
def machine_set(recipe: TrainingRecipe, device: torch.device) -> Iterator[None]:
    """Threads, arithmetic and attention of the recipe, generators free to reseed; all as before afterwards."""
    keep_freed_memory()
    threads, matmul = torch.get_num_threads(), torch.get_float32_matmul_precision()
    plainly = sdpa_kernel(SDPBackend.MATH) if recipe.attention == "plain" else nullcontext()
    with plainly, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if recipe.threads:
                torch.set_num_threads(recipe.threads)
            torch.set_float32_matmul_precision(recipe.float32_matmul)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(matmul)


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep what one step frees for the next; whether it is one that can be told.

    A step frees and takes the same activations again and again. glibc gives large pieces back to the system each time,
    and the system clears every page that it hands out: that took half of the time of a small convolutional network.
    The thresholds are those at which glibc arrives by itself when a program happens to free pieces of 32 MB.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_THRESHOLD, 32 << 20) and library.mallopt(M_TRIM_THRESHOLD, 64 << 20))


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From malloc.h."""
OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
"""How PyTorch says on a CPU that there is no memory left, in an error that has no type of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def resident(batches: Batches, device: torch.device) -> Batches:
    """The same batches, their rows on the GPU where half of its free memory holds them: gathers are quick there."""
    tensors = [t for t in (*batches.inputs, batches.target, batches.weight) if t is not None]
    if device.type != "cuda" or all(tensor.device == device for tensor in tensors):
        return batches
    if sum(tensor.nbytes for tensor in tensors) > torch.cuda.mem_get_info(device)[0] / 2:
        return batches
    there = copy.copy(batches)
    there.inputs = tuple(tensor.to(device) for tensor in batches.inputs)
    there.target = None if batches.target is None else batches.target.to(device)
    there.weight = None if batches.weight is None else batches.weight.to(device)
    return there


def machine_class(device: torch.device) -> dict[str, object]:
    """What speed and last bits depend on: processor, cores, device and the build of PyTorch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"torch": torch.__version__, "device": name, "cores": os.cpu_count()}


@cache
def processor() -> str:
    """The processor's name and its vector instructions, as PyTorch uses them."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
