"""The folder of a script: it reads the user's files, and what it writes stays in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.runner import script_folder
from bench.runner.script_folder import make_folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    for name in (
        "config.py",
        "out/old.pt",
        "deep/er/x.txt",
        ".git/HEAD",
        "venv/pyvenv.cfg",
        "results/runs/r/plan.json",
    ):
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name} of the user")
    return home


def test_everything_can_be_read_and_nothing_of_the_users_is_changed(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    make_folder(home, folder, without=[home / "results"])
    for name in ("config.py", "out/old.pt", "deep/er/x.txt", ".git/HEAD", "venv/pyvenv.cfg"):
        assert (folder / name).read_text() == f"{name} of the user"
    assert not (folder / "results").exists()
    for name in ("config.py", "out/old.pt", "out/new.pt", "deep/new/y.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("of the script")
    assert (home / "config.py").read_text() == "config.py of the user"
    assert (home / "out/old.pt").read_text() == "out/old.pt of the user"
    assert not (home / "out/new.pt").exists()
    assert not (home / "deep/new").exists()


def test_the_run_may_be_in_the_folder_itself(home: Path) -> None:
    folder = home / "results/runs/r/logs/launch/cwd"
    folder.parent.mkdir(parents=True)
    make_folder(home, folder, without=[home / "results/runs/r", home / "results/runs"])
    assert (folder / "config.py").exists()
    assert not (folder / "results/runs").exists()


def test_large_files_and_folders_of_many_files_are_linked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_folder, "SMALL", 30)
    monkeypatch.setattr(script_folder, "MOST_ENTRIES", 20)
    (home / "large.bin").write_bytes(bytes(31))
    (home / "data").mkdir()
    for number in range(21):
        (home / "data" / str(number)).touch()
    make_folder(home, tmp_path / "own")
    linked = {path.name for path in (tmp_path / "own").iterdir() if path.is_symlink()}
    assert linked == {"large.bin", "data", ".git", "venv"}
