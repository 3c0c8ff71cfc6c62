"""`afina draft`: candidate examples from documents, written by a teacher model for a person to read."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from afina.cli.stage import print_json
from afina.cli.terminal import shown_events
from afina.core.errors import RecipeError
from afina.core.translation import _

NAME = "draft"
HELP = "propose examples from documents, by a teacher model, for you to read"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "documents", nargs="+", help=_("files, folders and patterns: PDF, DOCX, PPTX, HTML, EPUB, Markdown, text")
    )
    parser.add_argument("--model", metavar=_("name"), help=_("the teacher: a model of Ollama, or of --server"))
    parser.add_argument("--server", metavar=_("address"), help=_("an OpenAI-compatible address; its key is in AFINA_API_KEY"))
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("drafts.jsonl"),
        metavar=_("file"),
        help=_("where drafts are added (default: drafts.jsonl)"),
    )
    parser.add_argument("--count", type=int, default=3, metavar=_("number"), help=_("questions for a passage (default: 3)"))
    parser.add_argument("--chunk", type=int, default=1200, metavar=_("number"), help=_("characters of a passage (default: 1200)"))
    parser.add_argument(
        "--language", choices=("auto", "en", "es"), default="auto", help=_("language of the documents (default: found out)")
    )
    parser.add_argument(
        "--examples", action="append", default=[], metavar=_("file"), help=_("examples that are there already: not asked again")
    )
    parser.add_argument("--json", action="store_true", help=_("print the result as JSON on standard output"))


def run(args: argparse.Namespace) -> int:
    from afina.core.events import Events
    from afina.stages.draft import Wanted, draft, find_teacher

    if not 1 <= args.count <= 20:
        raise RecipeError(
            _("--count {count}: from 1 to 20 questions").format(count=args.count), fix=_("take for example --count 3")
        )
    if not 200 <= args.chunk <= 20_000:
        raise RecipeError(
            _("--chunk {count}: from 200 to 20000 characters").format(count=args.chunk), fix=_("take for example --chunk 1200")
        )
    teacher = find_teacher(args.model, args.server)
    wanted = Wanted(count=args.count, characters=args.chunk, language=args.language, examples=tuple(args.examples))
    with shown_events() as listener:
        drafted = draft(args.documents, teacher, args.out, wanted, Events(listeners=(listener,)))
    if args.json:
        print_json(asdict(drafted))
    else:
        for reason, count in drafted.refused.items():
            print(f"  {count:>6}  {reason}", file=sys.stderr)
    print(
        f"{_('next')}: "
        + _('read {file}; change "draft" to "ok" where a row is right, delete the others, then name it in data.examples').format(
            file=drafted.file
        ),
        file=sys.stderr,
    )
    return 0
