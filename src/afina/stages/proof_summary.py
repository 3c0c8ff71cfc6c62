"""What the page about a deployment's proof says, from ``proof.json`` as it was written, with personal data masked."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from afina.core.translation import _, catalogue, language
from afina.core.units import Displayed, format_bytes, grouped
from afina.data.clean.personal import mask
from afina.export.proof import HELD_OUT, largest_difference
from afina.export.served import Served
from afina.recipe.kinds import Kind
from afina.report.proof_page import Case, NearTie, Parting, ProofPage


def page(proof: Mapping[str, Any]) -> ProofPage:
    """The values of ``proof.json``, in the user's language."""
    cases = [_case(check, proof["kind"]) for check in proof["checked"]]
    is_held_out = [check["case"] == HELD_OUT for check in proof["checked"]]
    hard = tuple(case for case, one in zip(cases, is_held_out, strict=True) if not one)
    return ProofPage(
        language=language() if catalogue(language()) else "en",
        name=proof["name"],
        verdict=_verdict(proof, hard),
        facts=_facts(proof),
        held_out=tuple(case for case, one in zip(cases, is_held_out, strict=True) if one),
        hard=hard,
        inside=tuple(Served.from_record(proof["inside"]).words()) if proof.get("inside") else (),
        question=mask(proof["question"]),
        answer=mask(proof["answer"]),
        ended=proof["ended"],
        file_facts=_file_facts(proof),
        sha256=proof["sha256"],
        near_ties=tuple(_near_tie(tie) for tie in proof["export"]["near_ties"]),
        version=proof["afina"],
        finished=proof["finished"],
        seconds=proof["seconds"],
    )


def _verdict(proof: Mapping[str, Any], hard: tuple[Case, ...]) -> str:
    wrong = [case.name for case in hard if case.was_asked and not case.is_good]
    first = (
        _("What is served is what was trained, and it stops by itself.")
        if proof["ended"]
        else _("What is served is what was trained, but its answers did not end by themselves.")
    )
    if wrong:
        return first + " " + _("Read otherwise than in training: {cases}.").format(cases=", ".join(wrong))
    return first


def _facts(proof: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    where = _("the embedded llama.cpp") if proof["destination"] == "embedded" else "Ollama"
    version = ((_("version"), str(proof["version"])),) if proof["version"] else ()
    rate = proof["tokens_per_second"]
    return (
        (_("served by"), where),
        (_("model"), str(proof["model"])),
        *version,
        (_("context in tokens"), grouped(proof["context"])),
        *(((_("tokens a second"), grouped(rate)),) if rate is not None else ()),
    )


def _file_facts(proof: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    export = proof["export"]
    return (
        (_("file"), proof["file"]),
        (_("size"), format_bytes(proof["bytes"])),
        (_("numbers: the largest error of a matrix"), f"{Displayed(100 * export['worst_error']):.2f} %"),
        (_("reading: held-out examples cut into the tokens of training"), grouped(export["conversations"])),
        (_("of these, with unusual blanks or accents"), grouped(export["untidy"])),
        (
            _("choices: tokens compared with torch's ({kinds})").format(kinds=", ".join(export["compared"])),
            grouped(export["tokens"]),
        ),
    )


def _case(check: Mapping[str, Any], kind: Kind) -> Case:
    held_out = check["case"] == HELD_OUT
    return Case(
        name="" if held_out else case_title(check["case"]),
        question=mask(check["question"]),
        same_text=check["same_text"],
        tokens=check["tokens"],
        wanted_tokens=check["wanted_tokens"],
        same_tokens=check["same_tokens"],
        difference=check["difference"],
        allowed=largest_difference(kind) if held_out else None,
        remark=check["remark"],
        parting=_parting(check["parting"]) if check["parting"] else None,
    )


def case_title(case: str) -> str:
    """A hard case for the user."""
    titles = {
        "one turn": _("one question"),
        "system": _("with a system message"),
        "empty system": _("with an empty system message"),
        "several turns": _("several turns"),
        "system, several turns": _("a system message and several turns"),
        "other scripts": _("other scripts and emoji"),
        "accents apart": _("accents as characters of their own"),
        "outer blanks": _("blanks before and behind"),
        "like a special token": _("text that looks like special tokens"),
        "tools": _("tools"),
    }
    return titles.get(case, case)


def _parting(parting: Mapping[str, Any]) -> Parting:
    wanted, got = mask(parting["wanted"]), mask(parting["got"])
    common = sum(1 for _pair in takewhile(lambda pair: pair[0] == pair[1], zip(wanted, got, strict=False)))
    return Parting(parting["place"], common, wanted, got)


def _near_tie(tie: Mapping[str, Any]) -> NearTie:
    return NearTie(tie["type"], tie["source"], tie["position"] + 1, tie["torch"], tie["llama"], tie["margin"])
