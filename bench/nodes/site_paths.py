"""Paths on two nodes of one side of a comparison: each node has its own worktree, and lends its own packages."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.runner.rank_site import Site


@dataclass(frozen=True)
class SitePaths:
    """Turns paths of one node into those of another; ``folders`` has pairs of folders with the same contents."""

    folders: tuple[tuple[str, str], ...] = ()

    @classmethod
    def between(cls, here: Site, there: Site) -> SitePaths:
        """Return the paths of two sites of the same side."""
        pairs = ((here.root, there.root), (here.packages, there.packages))
        return cls(tuple((own, other) for own, other in pairs if own != other))

    @property
    def back(self) -> SitePaths:
        """The same in the other direction."""
        return SitePaths(tuple((other, own) for own, other in self.folders))

    def path(self, path: str) -> str:
        """Return a path on the other node; one outside the folders is the same there."""
        for own, other in self.folders:
            if own and Path(path).is_relative_to(own):
                return str(Path(other) / Path(path).relative_to(own))
        return path

    def of_variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return variables of ranks, whose PYTHONPATH may name stepbench's packages."""
        paths = {name: variables[name] for name in ("PYTHONPATH",) if name in variables}
        moved = {name: os.pathsep.join(map(self.path, text.split(os.pathsep))) for name, text in paths.items()}
        return {**variables, **moved}

    def of_spec(self, spec: bytes) -> bytes:
        """Return a spec, as ``Spec.write`` writes it, for ranks of the other node."""
        if not self.folders:
            return spec
        values = json.loads(spec)
        where, colon, name = values["target"].rpartition(":")
        values["target"] = f"{self.path(where)}{colon}{name}"
        values["watched"] = [self.path(folder) for folder in values["watched"]]
        if script := values["script"]:
            script["home"] = self.path(script["home"])
            script["target"] = script["target"] if script["is_module"] else self.path(script["target"])
        return json.dumps(values).encode()
