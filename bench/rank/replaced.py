"""Replaces functions of PyTorch for some time by wrappers of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


@contextlib.contextmanager
def replaced(owner: Any, name: str, wrap: Wrap) -> Iterator[None]:
    """Replace a function of a module or a class by ``wrap`` of it, and put it back.

    If somebody else has replaced it meanwhile, theirs stays.
    """
    own = vars(owner).get(name)
    new: Any = wrap(getattr(owner, name))
    if isinstance(own, staticmethod):
        new = staticmethod(new)
    setattr(owner, name, new)
    try:
        yield
    finally:
        if vars(owner).get(name) is new:
            if own is None:  # inherited from a base class
                delattr(owner, name)
            else:
                setattr(owner, name, own)
