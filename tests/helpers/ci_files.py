"""What systems of CI read: YAML as values, its schemas, and scripts with commands that stand in for the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

GITHUB_BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")  # `shell: bash`, and the shell of GitLab's images
BASH = ("bash", "-e")  # GitHub's shell where a step names none
JENKINS_SH = ("sh", "-xe")
SAYS_WORDS = "printf '%s\\0' \"$@\" > said"  # a command that writes its words down


def read_yaml(text: str) -> Any:
    """Return a document with every scalar as text: `on` stays a word."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; it is in the extra `dev`")
    return yaml.load(text, yaml.BaseLoader)


def schema_errors(schema: str, *files: Path) -> str:
    """Return what a schema that check-jsonschema brings says against files; an empty text if they are valid."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed; it is in the extra `dev`")
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def step(job: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in job["steps"] if one.get("name") == name]
    return dict(found)


def run(
    script: str, folder: Path, commands: Mapping[str, str], shell: tuple[str, ...] = BASH, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder, where ``commands``, names with the text of a script for ``sh``, are found first."""
    programs = folder / ".git" / "programs"  # no file of the folder, if that is a repository
    programs.mkdir(parents=True, exist_ok=True)
    for name, text in commands.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    (programs / "script").write_text(script)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", **environ}
    return subprocess.run(
        [*shell, str(programs / "script")], cwd=folder, env=environment, capture_output=True, text=True
    )


def said(folder: Path) -> list[str]:
    """Return the words that a command with SAYS_WORDS was given last."""
    return (folder / "said").read_text().split("\0")[:-1]
