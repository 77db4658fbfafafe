"""Counts the work of one step: operations, bytes, collectives, synchronisations of the host and memory by kind.

Counts are exact and do not depend on how fast the machine is. The step is neither timed nor part of any statistic.
"""
