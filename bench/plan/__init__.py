"""From what was asked to cases in order, and why some cannot run. Imports ``machine``, ``workloads`` and ``launch``."""
