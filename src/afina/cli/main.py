"""The command line: words, flags, exit codes. Each command is a file of its own with NAME, HELP, ``add_arguments`` and ``run``.

Nothing heavy is imported here: a command imports its stage when it runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from afina import __version__
from afina.cli import (
    advise,
    chat,
    compare,
    curve,
    demo,
    deploy,
    doctor,
    draft,
    export,
    new,
    plan,
    prepare,
    report,
    run,
    serve,
    train,
)
from afina.core.environment import settle_environment
from afina.core.errors import BUG_EXIT_CODE, INTERRUPTED_EXIT_CODE, AfinaError, RecipeError, ResourceError
from afina.core.files import FULL_DISK
from afina.core.interrupt import was_interrupted
from afina.core.translation import _

COMMANDS = (
    demo,
    doctor,
    new,
    draft,
    advise,
    prepare,
    plan,
    train,
    compare,
    curve,
    export,
    deploy,
    chat,
    serve,
    run,
    report,
)  # in the order of work


NO_ROOM_OR_RIGHT = (*FULL_DISK, errno.EACCES, errno.EPERM, errno.EROFS)  # of the system, and not our bugs


class _Formatter(argparse.HelpFormatter):
    """argparse's own, in the user's language."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        super().add_usage(usage, actions, groups, f"{_('usage')}: " if prefix is None else prefix)


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors look like all the others and whose own words are in the user's language."""

    def speak(self) -> None:
        """Gives argparse's headings and ``--help`` in the user's language; the parser is made with ``add_help=False``."""
        self._positionals.title, self._optionals.title = _("positional arguments"), _("options")
        self.add_argument("-h", "--help", action="help", help=_("show this help message and exit"))

    def error(self, message: str) -> NoReturn:
        raise RecipeError(_translated(message), fix=self.see_help())

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raises RecipeError for arguments that no action takes, with the option that the first one may mean."""
        what = _("unrecognized arguments: {names}").format(names=" ".join(unknown))
        raise RecipeError(what + _meant(unknown[0].partition("=")[0], self._option_string_actions), fix=self.see_help())

    def see_help(self) -> str:
        return _("see: {command} --help").format(command=self.prog)


def _translated(message: str) -> str:
    """One of argparse's sentences in the user's language; one that we do not know as it is."""
    if found := re.fullmatch(r"argument (.+?): invalid choice: '(.*?)' \(choose from (.+)\)", message, re.DOTALL):
        choices = [choice.strip(" '") for choice in found[3].split(",")]
        what = _("{name}: there is no '{value}'").format(name=found[1], value=found[2])
        return what + (_meant(found[2], choices) or _("; here one can write: {names}").format(names=", ".join(choices)))
    if found := re.fullmatch(r"the following arguments are required: (.+)", message):
        return _("the following arguments are required: {names}").format(names=found[1])
    if found := re.fullmatch(r"argument (.+?): invalid (\w+) value: '(.*)'", message, re.DOTALL):
        kinds = {"int": _("a whole number"), "float": _("a number")}
        expected = kinds.get(found[2], found[2])
        return _("{name} is '{value}'; it should be {expected}").format(name=found[1], value=found[3], expected=expected)
    if found := re.fullmatch(r"argument (.+?): expected one argument", message):
        return _("{name} needs a value").format(name=found[1])
    return message


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return _("; did you mean '{name}'?").format(name=close[0]) if close else ""


def build_parser() -> _Parser:
    """The parser of ``afina`` with a sub-parser a command."""
    parser = _Parser(
        prog="afina",
        description=_("From your examples to your own model in Ollama."),
        epilog=_("New here? Type: afina demo"),
        formatter_class=_Formatter,
        add_help=False,
    )
    parser.speak()
    parser.add_argument(
        "--version", action="version", version=f"afina {__version__}", help=_("show program's version number and exit")
    )
    commands = parser.add_subparsers(title=_("commands, in the order of work"), metavar=_("command"), parser_class=_Parser)
    for command in COMMANDS:
        words = _(command.HELP)
        child = commands.add_parser(command.NAME, help=words, description=words, formatter_class=_Formatter, add_help=False)
        child.speak()
        command.add_arguments(child)
        child.set_defaults(run=command.run, refuse=child.refuse)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; every failure becomes one clear message."""
    settle_environment()
    wants_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    try:
        parser = build_parser()
        args, unknown = parser.parse_known_args(arguments)
        if unknown:
            (args.refuse if "refuse" in args else parser.refuse)(unknown)
        if "run" not in args:
            parser.print_help()
            return 0
        return int(args.run(args))
    except AfinaError as error:
        if was_interrupted(error):
            return _stopped()
        _print_error(error, wants_json)
        return error.exit_code
    except KeyboardInterrupt:
        return _stopped()
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in NO_ROOM_OR_RIGHT:
            print(_bug_text(error), file=sys.stderr)
            return BUG_EXIT_CODE
        refused = _refused(error)
        _print_error(refused, wants_json)
        return refused.exit_code
    except Exception as error:  # noqa: BLE001  # anything else is our bug: one line for the user, all of it for us
        if was_interrupted(error):
            return _stopped()
        print(_bug_text(error), file=sys.stderr)
        return BUG_EXIT_CODE


def _refused(error: OSError) -> ResourceError:
    """What the system would not write or read, where no stage has said it more exactly."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in FULL_DISK:
        return ResourceError(where + _("the disk is full"), fix=_("free some space there; then the same command goes on"))
    return ResourceError(
        where + (error.strerror or str(error)), fix=_("give yourself the right to it, or choose another place with --runs FOLDER")
    )


def _stopped() -> int:
    print("\n" + _("stopped; the same command goes on from here"), file=sys.stderr)
    return INTERRUPTED_EXIT_CODE


def _print_error(error: AfinaError, wants_json: bool) -> None:
    if wants_json:
        record = {"error": {"type": type(error).__name__, "what": error.what, "fix": error.fix, "exit_code": error.exit_code}}
        print(json.dumps(record, ensure_ascii=False))
    lines = error.what.split("\n")
    told = " " + lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines)
    print(_("error") + ":" + told, file=sys.stderr)
    print(_("what to do") + ": " + error.fix, file=sys.stderr)


def _bug_text(error: Exception) -> str:
    """One line that names the error and the file with the traceback."""
    handle, name = tempfile.mkstemp(prefix="afina-traceback-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return _("this is a bug in afina: {kind}: {text}; please report it with {path}").format(
        kind=type(error).__name__, text=str(error).split("\n")[0], path=Path(name)
    )


if __name__ == "__main__":
    sys.exit(main())
