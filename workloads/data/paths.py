"""The files behind ``folder=``, ``text=``, ``mnist=`` and ``criteo=``. No torch."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from workloads.data import demo, mnist_idx

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
KINDS = ("folder", "text", "mnist", "criteo")
FINGERPRINT_BYTES = 1 << 20


def images_of(folder: Path) -> list[Path]:
    """Return all images in ``folder/class/``, sorted; an empty list if there are none."""
    return sorted(p for p in folder.glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES)


def resolve(data: str) -> str:
    """Return ``folder=demo`` and other demo data with their real paths, made if missing; other values as they are."""
    kind, _, path = data.partition("=")
    return f"{kind}={demo.path(kind)}" if kind in KINDS and path == "demo" else data


@functools.lru_cache
def fingerprint(data: str) -> str:
    """Return a text that is equal for equal data sets, wherever they are: a hash of files, else the kind."""
    kind, _, path = data.partition("=")
    if kind not in KINDS:
        return kind
    digest = hashlib.sha256()
    if kind == "folder":
        for file in images_of(Path(path)):
            digest.update(f"{file.parent.name}/{file.name} {file.stat().st_size}\n".encode())
    elif kind == "mnist":
        for part in mnist_idx.training_set(path):
            with part.open() as stream:  # the same hash whether compressed or not
                digest.update(stream.read(FINGERPRINT_BYTES))
    else:
        size = Path(path).stat().st_size
        with open(path, "rb") as stream:
            digest.update(str(size).encode() + stream.read(FINGERPRINT_BYTES))
            stream.seek(max(0, size - FINGERPRINT_BYTES))
            digest.update(stream.read())
    return f"{kind}:{digest.hexdigest()[:16]}"
