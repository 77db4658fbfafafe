"""Parses ``--strategy``: a name and its options, without torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import UsageError, did_you_mean
from bench.plan.strategies import NONE, SCRIPTS_OWN, STRATEGIES


@dataclass(frozen=True)
class StrategySpec:
    """A strategy's name, and a value for each of its options."""

    name: str
    options: Mapping[str, str]

    @property
    def spec(self) -> str:
        """The same as text: the name, and the options that are not at their defaults, in the order of the table."""
        known = STRATEGIES[self.name].options if self.name in STRATEGIES else {}
        return ":".join([self.name, *(f"{k}={self.options[k]}" for k in known if self.options[k] != known[k].default)])


@functools.lru_cache(4096)  # A plan of thousands of cases has few strategies.
def parse_strategy(text: str) -> StrategySpec:
    """Parse ``name[:option=value…]``; UsageError for anything else."""
    if text in (SCRIPTS_OWN, NONE):
        return StrategySpec(text, {})
    name, *rest = text.split(":")
    if name not in STRATEGIES:
        raise UsageError(given=name, allowed=", ".join(STRATEGIES), hint=did_you_mean(name, STRATEGIES))
    known = STRATEGIES[name].options
    options = {option: choice.default for option, choice in known.items()}
    for item in rest:
        option, equals, value = item.partition("=")
        if option not in known:
            allowed = f"the options {', '.join(known)}" if known else "no options"
            raise UsageError(option=name, given=option, allowed=allowed, hint=did_you_mean(option, known))
        if not equals or not known[option].allows(value):
            choice = known[option]
            above = choice.most < math.inf and value.isascii() and value.isdecimal() and len(value.lstrip("0")) > 1
            most = f"At most {choice.most:,}." if above else None
            raise UsageError(option=f"{name}:{option}", given=value, allowed=choice.allowed, hint=most)
        options[option] = str(int(value)) if value.isdecimal() else value
    return StrategySpec(name, options)
