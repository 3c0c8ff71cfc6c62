"""The command line: words, flags, exit codes. Each command is a file of its own with NAME, HELP, ``add_arguments`` and ``run``.

Nothing heavy is imported here: a command imports its stage when it runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
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
from afina.core.allocation import align_large_tensors
from afina.core.errors import BUG_EXIT_CODE, INTERRUPTED_EXIT_CODE, AfinaError, RecipeError
from afina.core.interrupt import was_interrupted
from afina.core.threads import let_threads_sleep
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


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors look like all the others."""

    def error(self, message: str) -> NoReturn:
        raise RecipeError(message, fix=_("see: {command} --help").format(command=self.prog))


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``afina`` with a sub-parser a command."""
    parser = _Parser(
        prog="afina",
        description=_("From your examples to your own model in Ollama."),
        epilog=_("New here? Type: afina demo"),
    )
    parser.add_argument("--version", action="version", version=f"afina {__version__}")
    commands = parser.add_subparsers(title=_("commands, in the order of work"), metavar=_("command"), parser_class=_Parser)
    for command in COMMANDS:
        words = _(command.HELP)
        child = commands.add_parser(command.NAME, help=words, description=words)
        command.add_arguments(child)
        child.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; every failure becomes one clear message."""
    let_threads_sleep()
    align_large_tensors()
    wants_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    try:
        parser = build_parser()
        args = parser.parse_args(arguments)
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
    except Exception as error:  # noqa: BLE001  # anything else is our bug: one line for the user, all of it for us
        if was_interrupted(error):
            return _stopped()
        print(_bug_text(error), file=sys.stderr)
        return BUG_EXIT_CODE


def _stopped() -> int:
    print("\n" + _("stopped; the same command goes on from here"), file=sys.stderr)
    return INTERRUPTED_EXIT_CODE


def _print_error(error: AfinaError, wants_json: bool) -> None:
    if wants_json:
        record = {"error": {"type": type(error).__name__, "what": error.what, "fix": error.fix, "exit_code": error.exit_code}}
        print(json.dumps(record, ensure_ascii=False))
    lines = error.what.split("\n")
    head = _("error") + ": " + (lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines))
    print(head, file=sys.stderr)
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
