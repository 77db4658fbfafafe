"""Imported last by the fork server: ranks need not look for garbage among what it has imported.

Otherwise the collection before the window would look at all objects of torch, and thereby copy the memory that a rank
shares with the fork server: more than half of the processor time of a short launch.
"""

import gc

gc.collect()
gc.freeze()
gc.enable()
