"""Imported first by the fork server: ends it when the launch server ends, and its ranks with it."""

import gc

from launch.orphans import die_with_parent

die_with_parent()
gc.disable()  # until launch.frozen is imported: to look for garbage would take a fifth of the time
