"""Imported last by the fork server: ranks need not look for garbage among what it has imported.

Otherwise the collection before the window would look at all objects of torch, and thereby copy the memory that a rank
shares with the fork server. In a short launch that was more than half of a rank's processor time.
"""

import gc

gc.collect()
gc.freeze()
gc.enable()
