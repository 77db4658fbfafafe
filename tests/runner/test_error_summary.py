"""The first sentence of an error. The messages are those of PyTorch 2.14, and NCCL 2.27, shortened at the end."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from bench.rank.recorded import failure_of
from bench.runner.error_summary import hint_for, summary

UNUSED = (
    "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one. This error "
    "indicates that your module has parameters that were not used in producing loss. You can enable unused parameter "
    "detection by passing the keyword argument `find_unused_parameters=True` to "
    "`torch.nn.parallel.DistributedDataParallel`, and by \nmaking sure all `forward` function outputs participate in "
    "calculating loss. \nIf you already have done the above, then [...]\nParameter indices which did not receive grad for "
    "rank 0: 2 3\n In addition, you can set the environment variable TORCH_DISTRIBUTED_DEBUG to either INFO or DETAIL"
)
TWICE = (
    "RuntimeError: Expected to mark a variable ready only once. This error is caused by one of the following reasons: "
    "1) Use of a module parameter outside the `forward` function. [...]"
)
CHANGED = (
    "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one. This error "
    "indicates that your training graph has changed in this iteration, e.g., one parameter is used in first iteration, "
    "but then got unused in the second iteration. this is not compatible with static_graph set to True.\n"
)
DEVICE_ASSERT = (
    "AcceleratorError: CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in https://docs.nvidia.com "
    "for more information.\nCUDA kernel errors might be asynchronously reported at some other API call."
)
NCCL = (
    "DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:3356, unhandled system "
    "error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.3\nncclSystemError: System call (e.g. socket, malloc) "
    "or external library call failed or device error. \nLast error:\nsocketStartConnect: Connect to 10.0.0.1<5> failed"
)
OUT_OF_MEMORY = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which "
    "1.50 GiB is free. Including non-PyTorch memory, this process has 77.60 GiB memory in use."
)
ENFORCED = (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 4000 bytes. Error code 12 (Cannot allocate memory)"
)
ASSERTED = (
    'RuntimeError: params.size() == 2 INTERNAL ASSERT FAILED at "/pytorch/reducer.cpp":2003, please report a bug to '
    "PyTorch. rebuilt parameter indices size is not same as original model parameters size. More"
)
IN_WORKER = (
    "ValueError: Caught ValueError in DataLoader worker process 3.\nOriginal Traceback (most recent call last):\n"
    '  File "loop.py", line 1, in fetch\n    data = sample[index]\n           ~~~~~~^^^^^^^\nKeyError: 7\n\n'
    "During handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
    '  File "mine.py", line 2, in __getitem__\n    raise ValueError\nmine.SampleError: sample 7 of file.bin is odd\nsee it\n'
)
COMPILER = (
    "BackendCompilerFailed: backend='inductor' raised:\nRuntimeError: no C++ compiler\n\nSet TORCHDYNAMO_VERBOSE=1"
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (UNUSED, "Expected to have finished reduction in the prior iteration before starting a new one."),
        (TWICE, "Expected to mark a variable ready only once."),
        (DEVICE_ASSERT, "CUDA error: device-side assert triggered"),
        (
            NCCL,
            "NCCL error in: /pytorch/torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:3356, unhandled system error (run "
            "with NCCL_DEBUG=INFO for details), NCCL version 2.27.3 Last error: socketStartConnect: Connect to "
            "10.0.0.1<5> failed",
        ),
        (OUT_OF_MEMORY, "CUDA out of memory. Tried to allocate 2.00 GiB."),
        (ENFORCED, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes."),
        (ASSERTED, "rebuilt parameter indices size is not same as original model parameters size."),
        (COMPILER, "backend='inductor' raised: RuntimeError: no C++ compiler"),
    ],
)
def test_messages_of_pytorch(message: str, expected: str) -> None:
    kind = message.partition(":")[0]
    assert summary(message) == f"{kind}: {expected}"


def test_an_exception_of_a_dataloader_worker_is_the_original_one() -> None:
    assert summary(IN_WORKER) == "mine.SampleError: sample 7 of file.bin is odd (in DataLoader worker process 3)"
    cut = IN_WORKER.partition("KeyError")[0]  # as shared memory holds it, where a record cannot be written
    assert summary(cut) == "ValueError: Caught ValueError in DataLoader worker process 3."


class Odd(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise KeyError("no such sample\nand more")


def test_a_real_dataloader_worker() -> None:
    with pytest.raises(KeyError) as error:
        next(iter(torch.utils.data.DataLoader(Odd(), num_workers=1)))
    assert summary(failure_of(error.value).message) == (
        "KeyError: 'no such sample\\nand more' (in DataLoader worker process 0)"  # KeyError shows its argument's repr
    )


def test_a_real_state_dict_that_does_not_fit() -> None:
    with pytest.raises(RuntimeError) as error:
        nn.Linear(2, 2).load_state_dict({"weight": torch.ones(2, 2), "scale": torch.ones(1)})
    assert summary(failure_of(error.value).message) == (
        'RuntimeError: Error(s) in loading state_dict for Linear: Missing key(s) in state_dict: "bias".'
    )


def test_groups_and_chains_tell_the_outermost_exception() -> None:
    outer = OSError("outer")
    outer.__cause__ = ValueError("inner")
    assert summary(failure_of(outer).message) == "OSError: outer"
    group = ExceptionGroup("two of them", [ValueError("one"), ValueError("two")])
    assert summary(failure_of(group).message) == "ExceptionGroup: two of them (2 sub-exceptions)"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("ValueError: no", "ValueError: no"),
        ("ValueError: \n\n  the first line is empty\nmore", "ValueError: the first line is empty"),
        ("\n\nKeyError: 3\n", "KeyError: 3"),
        ("AssertionError: ", "AssertionError"),
        ("ValueError: ------\n  framed text\n------", "ValueError: framed text"),
        ("ValueError: two headings:\nthe second:\nthe text\nmore", "ValueError: two headings: the second: the text"),
        (
            "ValueError: lr is 0.5 in file.py, see e.g. PyTorch 2.1. More",
            "ValueError: lr is 0.5 in file.py, see e.g. PyTorch 2.1.",
        ),
        ("ValueError: is this one the first sentence? Yes", "ValueError: is this one the first sentence?"),
        (
            "ValueError: wait for it... Here is the end (of it.) More",
            "ValueError: wait for it... Here is the end (of it.)",
        ),
        ("", ""),
    ],
)
def test_where_a_first_sentence_ends(message: str, expected: str) -> None:
    assert summary(message) == expected


def test_hostile_messages_take_no_time() -> None:
    began = time.process_time()
    for part in ("a. ", "</torch_", "Caught x in ", "x INTERNAL ASSERT FAILED at ", "Last error: ", "Traceback (most "):
        for message in (f"ValueError: {part * 100_000}", part * 100_000):
            summary(message)
            hint_for(message)
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (UNUSED, "try ddp:find-unused=on, or ddp:static-graph=on if the same parameters are unused in each step"),
        (TWICE, "try ddp:static-graph=on"),
        (CHANGED, "use ddp:find-unused=on in place of static-graph=on"),
        (NCCL, "run again with --env NCCL_DEBUG=WARN, and NCCL writes the cause to the logs"),
        (DEVICE_ASSERT, "run again with --env CUDA_LAUNCH_BLOCKING=1, and the stack trace shows the operation"),
        (
            "RuntimeError: unable to open shared memory object </torch_1_2_3> in read-write mode: Too many open files (24)",
            "raise the limit with ulimit -n, or lower --num-workers",
        ),
        (
            "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
            "workers are out of shared memory. Please try to raise your shared memory limit.",
            "enlarge /dev/shm, in a container by --shm-size, or lower --num-workers",
        ),
        (
            "RuntimeError: unable to write to file </torch_7_8_0>: No space left on device (28)",
            "enlarge /dev/shm, in a container by --shm-size, or lower --num-workers",
        ),
    ],
)
def test_known_causes_have_a_hint(message: str, hint: str) -> None:
    assert hint_for(message) == f"hint: {hint}"


def test_other_errors_have_none() -> None:
    with_find_unused = UNUSED.replace("You can enable unused parameter detection", "Since it is enabled, [...]")
    assert [hint_for(message) for message in (with_find_unused, OUT_OF_MEMORY, "ValueError: no")] == ["", "", ""]
