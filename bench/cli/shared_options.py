"""The options that several commands share: axes, selectors and settings, which say what to run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.errors import UsageError
from bench.plan.options import ALIASES, AXES, FAKE_RANKS, SELECTORS, SETTINGS, Option
from bench.plan.script_arguments import as_text

REPEATABLE = ("workload", "args", "data", "env")  # Their values may contain commas, so they are repeated instead.

Given = dict[str, Any]  # Option -> its value on the command line: a text, a list of texts, or None.


def option_parameter(option: Option, panel: str) -> inspect.Parameter:
    """Return the parameter of a command for an option of a table, in a panel of its help."""
    default = "" if option.default is None else default_text(option.shown_default)
    words = option.allowed.replace("a whole number from", "≥")
    shown = typer.Option(
        *(option.flag, *(f"--{alias}" for alias, name in ALIASES.items() if name == option.name)),
        help=f"{option.help}{default}",
        metavar=words,
        show_default=False,
        rich_help_panel=panel,
    )
    kind = list[str] | None if option.name in REPEATABLE else str | None
    return keyword_parameter(option.name, Annotated[kind, shown], None)


def default_text(what: object) -> str:
    """Return the default for the end of a help text, with the bracket escaped, because rich would read it as markup."""
    return rf" \[default: {what}]"


def keyword_parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """Return a keyword-only parameter of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


SUITE = typer.Option(help="A built-in suite or a TOML file; options override its axes.")
OVERSUBSCRIBE = typer.Option("--oversubscribe", help="Let ranks share a GPU, over Gloo.")
SCRIPT = typer.Option(
    "--script", metavar="FILE", help="A training script, run as it is; its arguments follow after --, or in --args."
)
AS_MODULE = typer.Option("--as-module", help="--script is the name of a module, as in python -m.")
REST = typer.Argument(metavar="[-- ARGUMENTS]", help="Arguments of --script.", show_default=False)
OF_LOCKS = ("timeout", "hang_timeout", "launcher")  # Settings that change no count.


def _parameters(settings: Iterable[str]) -> tuple[inspect.Parameter, ...]:
    return (
        keyword_parameter("script", Annotated[str | None, SCRIPT], None),
        keyword_parameter("as_module", Annotated[bool, AS_MODULE], False),
        keyword_parameter("rest", Annotated[list[str] | None, REST], None),
        *(option_parameter(option, "Axes (comma lists)") for option in (*AXES.values(), SELECTORS["scaling"])),
        *(option_parameter(SETTINGS[name], "Protocol") for name in settings),
        keyword_parameter("suite", Annotated[str | None, SUITE], None),
        keyword_parameter("oversubscribe", Annotated[bool, OVERSUBSCRIBE], False),
    )


Out = Annotated[Path, typer.Option(help="Folder for results.")]


def with_parameters(
    name: str, parameters: Sequence[inspect.Parameter], make: Callable[[dict[str, Any]], Any]
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return a decorator of commands that replaces a parameter by several options.

    The command gets ``make`` of the options' values as its parameter ``name``.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(command, eval_str=True).parameters.values()

        @functools.wraps(command)
        def with_options(**values: Any) -> int:
            given = {one.name: values.pop(one.name, one.default) for one in parameters}
            return command(**{name: make(given)}, **values)

        kept = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own if one.name != name]
        with_options.__dict__.pop("__wrapped__")  # Otherwise typer would read the signature of ``command``.
        with_options.__signature__ = inspect.Signature([*parameters, *kept])  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in (*parameters, *kept)}
        return with_options

    return decorate


def _given(values: dict[str, Any]) -> Given:
    """Return the values of options, with the words after ``--`` as ``args``; UsageError if both are given."""
    rest = values.pop("rest")
    if rest and not values["script"]:
        raise UsageError(option="bench", given=rest[0], allowed="options only", hint="Add --script FILE before --.")
    if rest and values["args"]:
        raise UsageError("--args and words after -- both are arguments of the script", option="--args")
    return {**values, "as_module": values["as_module"] or None, **({"args": [as_text(rest)]} if rest else {})}


# Decorators of a command with a parameter ``given: Given``.
with_run_options = with_parameters("given", _parameters(SETTINGS), _given)
with_lock_options = with_parameters(
    "given", (*_parameters(OF_LOCKS), option_parameter(FAKE_RANKS, "Axes (comma lists)")), _given
)
