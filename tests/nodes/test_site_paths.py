"""Paths of a comparison's side, on node 0 and on a follower."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.nodes.site_paths import SitePaths
from bench.runner.rank_site import Site

HERE, THERE = Site("/py", "/x/packages", "/repo", "/x/A"), Site("/py", "/y z/packages", "/repo", "/y z/A")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/x/A", "/y z/A"),
        ("/x/A/nets/mine.py", "/y z/A/nets/mine.py"),
        ("/x/packages", "/y z/packages"),
        ("/x/AB/mine.py", "/x/AB/mine.py"),
        ("/x", "/x"),
        ("/repo/nets", "/repo/nets"),
        ("nets/mine.py", "nets/mine.py"),
        ("", ""),
    ],
)
def test_what_is_inside_is_elsewhere_and_nothing_else(here: str, there: str) -> None:
    paths = SitePaths.between(HERE, THERE)
    assert (paths.path(here), paths.back.path(there)) == (there, here)


def test_equal_sites_change_nothing() -> None:
    """As with the files as they are, whose repository is at the same path on all nodes."""
    as_is = Site("/py", "", "/repo", "/repo")
    paths = SitePaths.between(as_is, as_is)
    assert (paths.folders, paths.of_spec(b"as it is"), paths.of_variables({"A": "/repo"})) == (
        *((), b"as it is"),
        {"A": "/repo"},
    )
    assert SitePaths.between(Site(), Site("/other/python")).folders == ()


def test_variables_name_the_packages_of_the_node() -> None:
    paths = SitePaths.between(HERE, THERE)
    variables = {"PYTHONPATH": "/x/packages::/mine", "DATA": "/x/packages"}
    assert paths.of_variables(variables) == {"PYTHONPATH": "/y z/packages::/mine", "DATA": "/x/packages"}
    assert paths.of_variables({}) == {}


@pytest.mark.parametrize(
    ("given", "moved"),
    [
        ({"target": "/x/A/net.py:Net"}, {"target": "/y z/A/net.py:Net"}),
        ({"target": "package.net:Net"}, {"target": "package.net:Net"}),
        (
            {"script": {"target": "/x/A/train.py", "is_module": False, "home": "/x/A", "arguments": ["/x/A"]}},
            {"script": {"target": "/y z/A/train.py", "is_module": False, "home": "/y z/A", "arguments": ["/x/A"]}},
        ),
        (
            {"script": {"target": "package.train", "is_module": True, "home": "/repo"}},
            {"script": {"target": "package.train", "is_module": True, "home": "/repo"}},
        ),
    ],
)
def test_a_spec_is_of_the_checkout_of_the_node(given: dict[str, Any], moved: dict[str, Any]) -> None:
    empty = {"target": "", "script": None, "watched": ["/repo", "/x/A"]}
    found = json.loads(SitePaths.between(HERE, THERE).of_spec(json.dumps({**empty, **given}).encode()))
    assert found == {**empty, "watched": ["/repo", "/y z/A"], **moved}
