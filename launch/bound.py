"""Imported first by the fork server: ends it when the launch server ends, and its ranks with it."""

from launch.orphans import die_with_parent

die_with_parent()
