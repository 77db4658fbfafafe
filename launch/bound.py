"""The fork server imports this before all else: it ends when the launch server does, and so do the ranks."""

from launch.orphans import die_with_parent

die_with_parent()
