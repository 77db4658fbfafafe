"""How much of a step waits for communication: by torch's profiler, or by steps without collectives."""
