"""What this machine is and has: GPUs, limits, software, load. Imports nothing of ``bench`` but errors."""
