"""A command line that cannot be followed is answered as every other error: what is wrong, and the fix."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperGroup

from segue.errors import SegueError

#: From 0 to 1, how much alike a word and a name are that is asked about; with less, `landing` is near to `explain`.
_ALIKE = 0.7


class UsageError(SegueError):
    """A command line that cannot be followed."""


class Group(TyperGroup):
    """Names the nearest commands, or all that it has, to who asks for one that it does not have."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            raise UsageError(f"there is no command `{ctx.command_path} {name[:80]}`", fix=_nearest(ctx, name))
        return super().resolve_command(ctx, args)


def is_help(error: typer.TyperException) -> bool:
    """Whether nothing is wrong: a group that was called alone has shown its help."""
    return type(error).__name__ == "NoArgsIsHelpError"  # typer itself knows it by its name


def explained(error: typer.TyperException) -> UsageError:
    """What typer says of options and arguments, with the fix."""
    ctx: Any = getattr(error, "ctx", None)
    options = sorted(getattr(error, "possibilities", None) or ())
    # Its own words for possible options are left out, since the fix names them.
    said = (error.message if options else error.format_message()).rstrip(".")
    message = said[:1].lower() + said[1:]
    if ctx is None:
        return UsageError(message, fix="`--help` after a command says what it takes")
    if isinstance(ctx.command, TyperGroup) and not hasattr(error, "option_name"):
        return UsageError(message, fix=_all(ctx))
    usage = " ".join(ctx.get_usage().removeprefix("Usage: ").split())
    fix = f"did you mean {_either(options)}? " if options else ""
    if "extra argument" in message and any(p.param_type_name == "argument" for p in ctx.command.params):
        fix = "put quotes around a value with blanks; "
    return UsageError(message, fix=f"{fix}it is called as `{usage}`; `{ctx.command_path} --help` says more")


def _nearest(ctx: Any, name: str) -> str:
    here, root = ctx.command_path, ctx.find_root()
    paths = dict(_paths(root.command, root.command_path))
    close = [f"{here} {one}" for one in get_close_matches(name, ctx.command.commands, cutoff=_ALIKE)]
    # A command that is right but for its group: `segue members`.
    found = [path for path, one in paths.items() if one == name] + close
    if not found:
        alike = get_close_matches(name, list(dict.fromkeys(paths.values())), cutoff=_ALIKE)
        found = [path for path, one in paths.items() if one in alike]
    hint = f"did you mean {_either(found)}? " if found else ""
    # The root has too many commands to be listed beside a hint.
    return f"{hint}`{here} --help` shows all" if found and (close or ctx is root) else f"{hint}{_all(ctx)}"


def _all(ctx: Any) -> str:
    path = ctx.command_path
    return f"the commands of `{path}` are {', '.join(ctx.command.commands)}; `{path} --help` says what each does"


def _paths(group: TyperGroup, above: str) -> Iterator[tuple[str, str]]:
    """Every command as it is typed, and the last word of it."""
    for name, command in group.commands.items():
        yield f"{above} {name}", name
        if isinstance(command, TyperGroup):
            yield from _paths(command, f"{above} {name}")


def _either(names: list[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)
