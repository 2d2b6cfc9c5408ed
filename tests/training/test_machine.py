from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from sounding.recipe import TrainingRecipe
from sounding.training.machine import is_out_of_memory, machine_set

PROGRAM = """
import resource, sys, torch
from sounding.training.machine import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    assert keep_freed_memory()
faults = 0
for step in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [torch.ones(3 << 18) for _ in range(8)]                # 8 x 3 MB
    del activations
    if step >= 2:
        faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults // 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_a_step_frees_is_there_for_the_next():
    pages = {}
    for how in ("kept", "given back"):
        run = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        pages[how] = int(run.stdout)
    # about 6,000 where pages are small, some dozens where the system has large ones to hand
    assert 4 * pages["kept"] < pages["given back"]


def test_threads_and_arithmetic_are_set_for_a_while():
    threads, matmul = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with machine_set(
        TrainingRecipe(threads=threads + 1, float32_matmul="medium", attention="plain"), torch.device("cpu")
    ):
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads + 1, "medium")
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads, matmul)
    assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_which_errors_say_that_memory_ran_out(error, expected):
    assert is_out_of_memory(error) is expected
