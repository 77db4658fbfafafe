"""Demo data, made once from installed files without a network, and always the same."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from workloads.data import criteo, mnist_idx
from workloads.data.cache import caches, is_ours, writable

CLASSES, IMAGES_A_CLASS, SIDE = 8, 64, 160
IMAGES, DIGITS, CLICKS = CLASSES * IMAGES_A_CLASS, 4096, 4096


def path(kind: str) -> Path:
    """Return the demo's files of ``folder``, ``text``, ``mnist`` or ``criteo``, made in a cache if they are missing.

    Raise OSError if they cannot be made.
    """
    name, make = _DEMOS[kind]
    there = (cache / name for cache in caches() if os.path.exists(cache / name) and is_ours(cache))
    target = next(there, None)
    if target is None:
        target = writable() / name
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / "made"
            make(made)
            _publish(made, target)
    return target


def _publish(made: Path, target: Path) -> None:
    """Move a folder into place at once, so that it is never seen incomplete.

    If two processes make it, the first one counts.
    """
    try:
        made.rename(target)
    except OSError:
        if not target.exists():
            raise


def _weyl(n: int, *steps: float) -> tuple[float, ...]:
    """Return numbers in [0, 1), spread evenly over all n, and the same on every machine."""
    return tuple(n * step % 1 for step in steps)


def _matplotlib(*parts: str) -> Path:
    """Return a file that matplotlib ships, without importing matplotlib."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "mpl-data", *parts)


def _images(folder: Path) -> None:
    """Write JPEG files in 8 classes, cut from the photograph of Grace Hopper."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(_matplotlib("sample_data", "grace_hopper.jpg")).convert("RGB"))
    height, width = pixels.shape[0] - SIDE, pixels.shape[1] - SIDE
    for n in range(IMAGES):
        y, x = _weyl(n, 0.6180339887, 0.7548776662)
        top, left = int(height * y), int(width * x)
        target = folder / f"class{n % CLASSES}" / f"{n:04}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[top : top + SIDE, left : left + SIDE]).save(target, quality=90)


def _text(file: Path) -> None:
    """Write the sources of this Python's standard library, one after the other."""
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    file.write_bytes(b"\n".join(source.read_bytes() for source in sources))


def _digits(folder: Path) -> None:
    """Write IDX files like MNIST's: digits of the font DejaVu Sans, each with its own size, position and slant."""
    from PIL import Image, ImageDraw, ImageFont

    font = str(_matplotlib("fonts", "ttf", "DejaVuSans.ttf"))
    fonts = [ImageFont.truetype(font, size) for size in range(20, 29)]
    images = bytearray()
    for n in range(DIGITS):
        size, y, x, slant = _weyl(n, 0.8566748838, 0.7338918566, 0.6287067210, 0.5385972572)
        image = Image.new("L", (mnist_idx.SIDE, mnist_idx.SIDE))
        centre = (12 + 4 * x, 12 + 4 * y)
        ImageDraw.Draw(image).text(
            centre, str(n % mnist_idx.CLASSES), fill=255, font=fonts[int(size * len(fonts))], anchor="mm"
        )
        images += image.rotate(40 * slant - 20, Image.Resampling.BILINEAR, center=centre).tobytes()
    folder.mkdir()
    labels = bytes(n % mnist_idx.CLASSES for n in range(DIGITS))
    Path(folder, "train-images-idx3-ubyte").write_bytes(
        mnist_idx.header(mnist_idx.IMAGES_MAGIC, DIGITS, mnist_idx.SIDE, mnist_idx.SIDE) + images
    )
    Path(folder, "train-labels-idx1-ubyte").write_bytes(mnist_idx.header(mnist_idx.LABELS_MAGIC, DIGITS) + labels)


def _clicks(file: Path) -> None:
    """Write made-up lines like Criteo's."""
    file.write_bytes(b"".join(criteo.made_up(n) for n in range(CLICKS)))


_DEMOS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "folder": (f"demo-images-{IMAGES}x{SIDE}", _images),
    "text": (f"demo-text-python-{'.'.join(map(str, sys.version_info[:3]))}.txt", _text),
    "mnist": (f"demo-digits-{DIGITS}", _digits),
    "criteo": (f"demo-clicks-{CLICKS}.tsv", _clicks),
}
