"""`afina doctor`: what is here, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from afina.cli.stage import print_json
from afina.cli.terminal import shown_events
from afina.core.errors import ResourceError
from afina.core.translation import _

if TYPE_CHECKING:
    from afina.stages.doctor import Finding

NAME = "doctor"
HELP = "what this machine has, what is missing, and the command that mends it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--deep", action="store_true", help=_("also train one step, export it and let it answer (on the embedded model)")
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar=_("folder"), help=_("where runs are kept (default: runs)")
    )
    parser.add_argument("--json", action="store_true", help=_("print the result as JSON on standard output"))


def run(args: argparse.Namespace) -> int:
    """0 where nothing essential is missing, else 4, the code of ResourceError."""
    from afina.stages.doctor import examine

    found = examine(args.runs)
    lacking = found.lacking
    if not args.json:
        _print(found.findings)
    deep: tuple[Finding, ...] = ()
    if args.deep and not lacking:
        from afina.stages.rehearse import rehearse  # torch

        with shown_events() as listener:
            deep = rehearse((listener,))
        if not args.json:
            _print(deep)
    if args.json:
        print_json({"healthy": not lacking, "findings": [asdict(finding) for finding in (*found.findings, *deep)]})
    elif lacking:
        print(_("missing, and nothing works without it: {topics}").format(topics=", ".join(finding.topic for finding in lacking)))
    else:
        print(_("everything essential is here"))
    return ResourceError.exit_code if lacking else 0


def _print(findings: tuple[Finding, ...]) -> None:
    """A line each: how it is, what, details; below it what mends it."""
    words = {"ok": _("ok"), "warning": _("warning"), "missing": _("missing")}
    first = max(len(word) for word in words.values())
    second = max(len(finding.topic) for finding in findings)
    for finding in findings:
        print(f"{words[finding.state]:<{first}}  {finding.topic:<{second}}  {finding.text}")
        if finding.fix:
            print(f"{'':<{first}}  {'':<{second}}  → {finding.fix}")
