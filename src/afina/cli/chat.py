"""`afina chat`: talk to the exported model in the terminal, or ask it line by line from a pipe."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from afina.cli.target import add_target, open_run
from afina.core.errors import DataError
from afina.core.translation import _

if TYPE_CHECKING:
    from afina.stages.chat import Chat

NAME = "chat"
HELP = "talk to the exported model; in a pipe: a question a line in, an answer each out"
HISTORY_LINES = 1000
QUOTES = '"""'
COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.chat import open_chat  # heavy: not needed for help

    recipe, folder = open_run(args)
    with open_chat(recipe, folder) as chat:
        if sys.stdin.isatty():
            print(
                _("{model}, {context} tokens of context. /help for help, Ctrl-D to leave.").format(
                    model=chat.model, context=chat.context
                ),
                file=sys.stderr,
            )
            with _line_history(folder.root / "logs" / "chat.history"):
                _talk(chat, args.json)
        else:
            for question in questions(_piped_line):
                if question == "/bye":
                    break
                if not _is_command(chat, question):
                    _answer(chat, question, args.json)
    return 0


def questions(read_line: Callable[[bool], str]) -> Iterator[str]:
    r"""Questions made of lines, until ``read_line`` raises EOFError; its argument says that a question goes on.

    A line that ends in ``\`` goes on in the next one; three double quotes at the start of a line open a block that the next three
    close. Blank questions are passed over.
    """
    while True:
        try:
            text = read_line(False)
        except EOFError:
            return
        try:
            if text.lstrip().startswith(QUOTES):
                text = text.lstrip().removeprefix(QUOTES)
                while QUOTES not in text:
                    text += "\n" + read_line(True)
                text = text.partition(QUOTES)[0]
            else:
                while text.endswith("\\"):
                    text = text[:-1] + "\n"
                    text += read_line(True)
        except EOFError:  # the end of the input also ends the question
            pass
        if text.strip():
            yield text.strip()


def _talk(chat: Chat, as_json: bool) -> None:
    """The conversation at a terminal. Ctrl-C stops an answer, or empties the line; Ctrl-D and /bye leave."""
    lines = questions(_typed_line)
    question: str | None = ""
    while True:
        try:
            question = next(lines, None)
            if question is None or question == "/bye":
                break
            if not _is_command(chat, question):
                _answer(chat, question, as_json)
        except KeyboardInterrupt:
            lines = questions(_typed_line)  # what was typed so far is thrown away
            print("\n" + _("(stopped; Ctrl-D or /bye leaves)"), file=sys.stderr)
        except DataError as error:  # the question does not fit: the conversation so far stays
            lines = questions(_typed_line)
            print(f"{_('error')}: {error.what}\n{_('what to do')}: {_('ask less at once; /reset begins anew')}", file=sys.stderr)
    if question is None:
        print(file=sys.stderr)  # Ctrl-D leaves the cursor behind the prompt


def _answer(chat: Chat, question: str, as_json: bool) -> None:
    """Prints the answer to ``question``, piece by piece where a person or a pipe reads it as text."""
    start = time.monotonic()
    pieces: list[str] = []
    finish: str | None = None
    with contextlib.closing(chat.ask(question)) as stream:
        while finish is None:
            try:
                pieces.append(next(stream))
                if not as_json:
                    print(pieces[-1], end="", flush=True)
            except StopIteration as end:
                finish = end.value
    if as_json:
        record = {
            "question": question,
            "answer": "".join(pieces),
            "finish": finish,
            "seconds": round(time.monotonic() - start, 3),
        }
        print(json.dumps(record, ensure_ascii=False), flush=True)
    else:
        print(flush=True)
    if finish == "length":
        print(_("(the context of {limit} tokens is full; /reset begins anew)").format(limit=chat.context), file=sys.stderr)


def _is_command(chat: Chat, text: str) -> bool:
    """Obeys ``/reset``, ``/system`` and ``/help``; False for what is meant for the model."""
    match = COMMAND.fullmatch(text)
    if match is None:
        return False
    command, rest = match[1], match[2]
    if command == "reset":
        chat.reset()
        print(_("the conversation begins anew"), file=sys.stderr)
    elif command == "system" and rest is None:
        print(chat.system or _("there is no system message"), file=sys.stderr)
    elif command == "system":
        chat.system = None if rest == "-" else rest
        chat.reset()
        print(_("the system message is changed, the conversation begins anew"), file=sys.stderr)
    elif command == "help":
        print(_help(), file=sys.stderr)
    elif command != "bye":
        print(_("there is no command /{command}; /help lists them").format(command=command), file=sys.stderr)
    return True


def _help() -> str:
    return "\n".join(
        (
            "/reset          " + _("begin a new conversation"),
            "/system         " + _("show the system message"),
            "/system TEXT    " + _("change it; a - takes it away"),
            "/help           " + _("this help"),
            "/bye, Ctrl-D    " + _("leave"),
            "Ctrl-C          " + _("stop the answer"),
            "\\               " + _("at the end of a line: the question goes on"),
            f"{QUOTES}             " + _("around a question of several lines"),
        )
    )


def _typed_line(goes_on: bool) -> str:
    prompt = "... " if goes_on else ">>> "
    if not sys.stdout.isatty():  # then only answers belong there
        print(prompt, end="", file=sys.stderr, flush=True)
        prompt = ""
    return _whole(input(prompt))


def _piped_line(_goes_on: bool) -> str:
    if isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin.errors != "surrogateescape":
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return _whole(line.rstrip("\r\n"))


def _whole(line: str) -> str:
    """``line``, which must be UTF-8: half a character cannot be asked."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            _("the line {line!r} is not UTF-8 (character {place})").format(line=line, place=error.start + 1),
            fix=_("send UTF-8 text"),
        ) from None
    return line


@contextlib.contextmanager
def _line_history(file: Path) -> Iterator[None]:
    """Arrow keys and what was typed before, kept in the run's folder, where Python has readline."""
    try:
        import readline  # not everywhere
    except ImportError:
        yield
        return
    if file.is_file():
        with contextlib.suppress(OSError):  # another library's format: it begins anew
            readline.read_history_file(file)
    readline.set_history_length(HISTORY_LINES)
    try:
        yield
    finally:
        file.parent.mkdir(parents=True, exist_ok=True)
        readline.write_history_file(file)
