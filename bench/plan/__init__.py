"""From the options to the cases of a run, and why some cannot run. Imports ``machine``, ``workloads``, ``launch``."""
