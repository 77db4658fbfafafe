"""The first sentence of an error, and hints for causes that are known."""

from __future__ import annotations

import re

# A pattern in the whole message, and a hint for it. The first pattern that matches counts.
KNOWN_CAUSES = (
    (
        "You can enable unused parameter detection",
        "try ddp:find-unused=on, or ddp:static-graph=on if the same parameters are unused in each step",
    ),
    ("not compatible with static_graph", "use ddp:find-unused=on in place of static-graph=on"),
    ("Expected to mark a variable ready only once", "try ddp:static-graph=on"),
    ("Too many open files", "raise the limit with ulimit -n, or lower --num-workers"),
    (
        r"out of shared memory|insufficient shared memory|allocate shared memory|</torch_.*No space left on device",
        "enlarge /dev/shm, in a container by --shm-size, or lower --num-workers",
    ),
    ("EADDRINUSE|[Aa]ddress already in use", "another process uses the port; end it, or run again"),
    (
        "unhandled system error|unhandled cuda error|ncclSystemError|ncclUnhandledCudaError|ncclInternalError",
        "run again with --env NCCL_DEBUG=WARN, and NCCL writes the cause to the logs",
    ),
    (
        "device-side assert triggered|illegal memory access",
        "run again with --env CUDA_LAUNCH_BLOCKING=1, and the stack trace shows the operation",
    ),
    ("no kernel image is available", "install a PyTorch that is built for the compute capability of this GPU"),
)
# What precedes the message in errors of PyTorch's C++ code: the file, and the condition that does not hold.
CHECKED_CONDITION = re.compile(
    r"\[enforce fail at [^\]]*\]\s+(?:[^:]*?\. )?|.* INTERNAL ASSERT FAILED at .*, please report a bug to PyTorch\. "
)
IN_A_WORKER = re.compile(r"Caught \S+ (in .+)\.\nOriginal Traceback")  # torch._utils.ExceptionWrapper
NCCL_LAST_ERROR = re.compile(r"Last error:\s*(\S.*)")
SENTENCE_END = re.compile(r"[^\s.][.!?][\"')\]`]*(?=\s+[^\sa-z])")
ABBREVIATION = re.compile(r"\b([A-Za-z]|approx|cf|etc|Fig|No|resp|vs)\.$")
FEWEST_WORDS = 5  # "CUDA out of memory." alone says too little
LONGEST = 10_000  # characters that are searched, as patterns may take quadratic time


def summary(message: str) -> str:
    """Return the type and the first sentence of an exception, on one line.

    ``message`` begins with the type, as in ``ValueError: no such file``. A line that ends with a colon is a heading of
    the next line. If a DataLoader worker raised the exception, the original one is summarised.
    """
    worker = IN_A_WORKER.search(message[:LONGEST])
    kind, _, text = (_original(message) if worker else message)[:LONGEST].strip().partition(":")
    said = first_sentence(text)
    if (last := NCCL_LAST_ERROR.search(text)) and last[1] not in said:
        said = f"{said} Last error: {last[1].strip()}"
    return (f"{kind}: {said}" if said else kind) + (f" ({worker[1]})" if worker and worker[1] not in said else "")


def first_sentence(text: str) -> str:
    """Return the first sentence of the first line of a text, with the next one if it has too few words."""
    lines = iter(line.strip() for line in text.splitlines() if re.search(r"\w", line))
    line = next(lines, "")
    while line.endswith(":") and (following := next(lines, "")):
        line = f"{line} {following}"
    prefix = CHECKED_CONDITION.match(line)
    line = line[prefix.end() :] if prefix else line
    ends = (line[: found.end()] for found in SENTENCE_END.finditer(line))
    return next((s for s in ends if len(s.split()) >= FEWEST_WORDS and not ABBREVIATION.search(s)), line)


def hint_for(message: str) -> str:
    """Return a hint for the cause of an error; empty if the cause is not a known one."""
    searched = message[:LONGEST]
    return next((f"hint: {hint}" for pattern, hint in KNOWN_CAUSES if re.search(pattern, searched)), "")


def _original(message: str) -> str:
    """Return the last exception of a formatted traceback: its first line without indentation, and all after it."""
    lines = message.rpartition("Traceback (most recent call last):\n")[2].splitlines()
    start = next((n for n, line in enumerate(lines) if line and not line[0].isspace()), None)
    return message if start is None else "\n".join(lines[start:])
