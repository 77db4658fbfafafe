"""Temporary folders that are locked by who uses them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from launch import folders


def test_a_folder_in_use_is_not_left_behind(tmp_path: Path) -> None:
    made = folders.make("bench-", str(tmp_path))
    assert folders.left_behind("bench-", str(tmp_path)) == []
    folders.remove(made)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_found_is_locked_until_it_is_removed(tmp_path: Path) -> None:
    """Its maker may be just about to lock it: it must then see that the folder is gone, and not lose it later."""
    folder = tmp_path / "bench-x"
    folder.mkdir()
    maker = os.open(folder / folders.OWNER, os.O_RDWR | os.O_CREAT, 0o600)
    assert folders.left_behind("bench-", str(tmp_path)) == [folder]
    with pytest.raises(BlockingIOError):
        fcntl.flock(maker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert folders.left_behind("bench-", str(tmp_path)) == []  # it is being removed
    folders.remove(folder)
    fcntl.flock(maker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(maker)
    assert not folder.exists()
