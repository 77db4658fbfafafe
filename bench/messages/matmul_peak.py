"""The fastest matrix products of one rank: what a rank measured, and the file that it leaves for ``bench run``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from bench.untrusted.rank_files import NonsenseError, read_json, write_json

FILE = "matmul_peak.json"
MOST_WAITED = 0.02


@dataclass(frozen=True)
class Product:
    """An (m, k) by a (k, n) matrix, multiplied ``times`` times; ``median_s`` is the median of their seconds."""

    m: int
    n: int
    k: int
    times: int
    median_s: float

    @property
    def tflops(self) -> float:
        """TFLOP/s: 2 FLOPs for each of its m n k multiply-adds."""
        return 2 * self.m * self.n * self.k / self.median_s / 1e12


@dataclass(frozen=True)
class MatmulPeak:
    """Products on one device: ``device`` is its name by the driver, or ``cpu``.

    ``type`` is what they compute in: a value of ``--precision`` without ``amp-``. ``threads`` are those of PyTorch in
    the rank; they have no effect on a GPU. ``waited`` is how long these threads together waited for a processor while
    they multiplied, as a share of that time.
    """

    device: str
    type: str
    threads: int
    torch: str
    products: list[Product]
    waited: float = 0.0

    @property
    def disturbed(self) -> bool:
        """Whether other programs took so much time that the peak may be too low."""
        return self.waited > MOST_WAITED

    @property
    def best(self) -> Product:
        """The fastest product."""
        return max(self.products, key=lambda product: product.tflops)

    @property
    def tflops(self) -> float:
        """The rate of the fastest product in TFLOP/s."""
        return self.best.tflops

    @classmethod
    def read(cls, folder: Path) -> MatmulPeak:
        """Return what the rank left in a folder; NonsenseError if it is missing, or cannot have been measured."""
        found = read_json(folder / FILE, cls)
        if found is None:
            raise NonsenseError("is missing")
        found.check()
        return found

    def check(self) -> None:
        """Raise NonsenseError if there is no product, or one that took no time."""
        if not self.products or min(product.median_s for product in self.products) <= 0:
            raise NonsenseError("has no time of a product")

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        write_json(folder / FILE, dataclasses.asdict(self))
