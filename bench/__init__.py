"""stepbench: distributed training benchmarks for PyTorch, with numbers that are right, honest and cheap."""

__version__ = "0.1.0"
