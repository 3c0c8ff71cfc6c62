"""Deploy: the exported model where people use it, Ollama or the embedded llama.cpp, proved there with real answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from afina import __version__
from afina.compare.comparison import ANSWERS
from afina.core.errors import DataError, QualityError, RecipeError, ServiceError
from afina.core.events import Events, Progress
from afina.core.files import read_json, sha256_of, write_atomic, write_json
from afina.core.run import Manifest, RunFolder
from afina.core.translation import _
from afina.core.units import MIB, format_bytes, format_share, grouped
from afina.data.store import load_conversations
from afina.export.embedded import prove_embedded
from afina.export.ollama import OllamaModel, Version, deploy_to_ollama, modelfile, remove, roll_back, versions
from afina.export.proof import TOP, Expected, Proof, choose_questions, hard_cases
from afina.infer.llama import LlamaServer
from afina.infer.ollama import Ollama, address_of, find_ollama
from afina.model.base import Base, resolve_base
from afina.recipe.kinds import KINDS, Kind
from afina.recipe.recipe import Recipe
from afina.report.proof_page import draw
from afina.stages import fingerprint
from afina.stages.prepare import NAME as PREPARE
from afina.stages.proof_summary import page
from afina.stages.renderer import build_renderer
from afina.stages.stage import Outcome, StageWork, run_stage

NAME = "deploy"
EXPORT = "export"
EMBEDDED = "embedded"
PROOF, PAGE, MODELFILE = "proof.json", "proof.html", "Modelfile"
AUTO_CONTEXT = 4096


@dataclass(frozen=True)
class DeployResult:
    """Where the model is and how to talk to it. ``model`` is its name in Ollama, or the file that the embedded server takes.

    ``question``, ``answer``: one that was really asked and really ended by itself. ``text_compared``: whether the text that the
    served model reads was compared with that of training (not every Ollama tells it; the tokens are always counted). ``inside``:
    what was found within the answers of Ollama's model.
    """

    destination: str
    model: str
    version: str | None
    previous: str | None
    gguf: Path
    context: int
    question: str
    answer: str
    text_compared: bool
    tokens_per_second: float | None
    checked: list[dict[str, Any]]
    inside: dict[str, Any] | None
    chat: str
    serve: str


def deploy(recipe: Recipe, run: RunFolder, events: Events) -> DeployResult:
    """Deploys the run's exported model. Raises ServiceError for Ollama's refusals, QualityError where the model does not stop."""
    exported = run.require(EXPORT)
    gguf = choose_gguf(recipe, run)
    context = choose_context(recipe)
    ollama = choose_ollama(recipe, events)
    name = recipe.deploy.name or recipe.name
    _forget_if_gone(run, ollama, f"{name}:latest", events)

    def work(folder: Path) -> Outcome:
        start = time.monotonic()
        _require_proved(gguf, exported, recipe.name)
        base = resolve_base(recipe.base, recipe.revision)
        renderer = build_renderer(recipe, base)
        held_out = load_conversations(run.stage(PREPARE), "test")
        limit = _answer_limit(recipe, context)
        questions = choose_questions(held_out, renderer, context - limit)
        hard = hard_cases(renderer, context - limit, recipe.system if ollama else None)
        bos = renderer.tokenizer.bos_token
        log = folder / "llama.log"
        if ollama is None:
            # Where export found that the model never stops, the file is as good as the training was: that is said, not refused.
            must_end = bool(exported.result["ends"][gguf.stem.rpartition("-")[2]])
            embedded = prove_embedded(
                gguf, context=context, questions=questions, hard=hard, bos=bos, max_new_tokens=limit, log=log, must_end=must_end
            )
            if not embedded.proof.ended:
                text = _(
                    "no answer ended by itself within {limit} tokens; train longer (train.epochs) before anybody relies on it"
                )
                events.warn(NAME, text.format(limit=limit))
            result, summary = _embedded_result(embedded.proof, gguf), _summary(embedded.proof, gguf.name)
            ended = embedded.proof.ended
        else:
            licence = licence_text(base)
            from afina.stages import inside  # imports torch, of which the embedded server needs nothing

            with LlamaServer(gguf, context=context, log=log) as server:
                expected = {question: server.first_words(question.ids, TOP) for question in questions}
                places = inside.tell_here(run, renderer, server)

            def look_inside(version: str) -> dict[str, Any]:
                found = inside.look_inside(recipe, run, renderer, base, ollama, version, places, folder, events)
                for line in found.words():
                    events.info(NAME, _("inside Ollama: {found}").format(found=line))
                return asdict(found)

            model = deploy_to_ollama(
                ollama,
                gguf,
                name=name,
                context=context,
                system=recipe.system,
                licence=licence,
                questions=questions,
                hard=hard,
                expected=Expected(kind_of(gguf), expected.__getitem__),
                bos=bos,
                max_new_tokens=limit,
                look_inside=look_inside,
                on_bytes=_upload_progress(gguf.stat().st_size, events),
                on_status=lambda status: events.info(NAME, f"Ollama: {status}"),
            )
            if not model.text_compared:
                events.info(NAME, _("this Ollama does not tell the text that its model reads; the tokens were counted instead"))
            result, summary = _ollama_result(model), _summary(model.proof, f"{model.latest} ({model.version})")
            ended = model.proof.ended
        _tell_differing(result["checked"], events)
        proof = _proof_record(recipe, gguf, context, exported, result, ended, time.monotonic() - start)
        write_json(folder / PROOF, proof)
        write_atomic(folder / PAGE, draw(page(read_json(folder / PROOF))))
        write_atomic(folder / MODELFILE, modelfile(f"../{EXPORT}/{gguf.name}", context, recipe.system, licence_text(base)))
        more = [path for path in (folder / ANSWERS,) if path.is_file()]
        return Outcome(result, [log, folder / PROOF, folder / PAGE, folder / MODELFILE, *more], summary)

    where = f"Ollama {ollama.version()}, {ollama.address}" if ollama else _("the embedded llama.cpp")
    manifest = run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "afina": __version__,
                "export": fingerprint.of_stage(exported),
                "recipe": fingerprint.of_settings(name, gguf.name, context, recipe.system, recipe.compare.max_new_tokens),
                "destination": ollama.address if ollama else EMBEDDED,
            },
            plan=lambda: _("{file} ({size}) to {where}, {context} tokens of context").format(
                file=gguf.name, size=format_bytes(gguf.stat().st_size), where=where, context=context
            ),
            work=work,
        ),
    )
    return DeployResult(
        **manifest.result,
        gguf=gguf,
        context=context,
        chat=f"ollama run {name}" if ollama else f"afina chat {recipe.name}",
        serve=f"afina serve {recipe.name}",
    )


def _proof_record(
    recipe: Recipe, gguf: Path, context: int, exported: Manifest, result: Mapping[str, Any], ended: bool, seconds: float
) -> dict[str, Any]:
    """What ``proof.json`` keeps: the file by its hash, what export proved of it, and what was asked where it is served."""
    kind, proved = kind_of(gguf), exported.result
    told = ("compared", "prompts", "tokens", "near_ties", "early_ends", "conversations", "untidy")
    return {
        "afina": __version__,
        "name": recipe.name,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 2),
        "file": gguf.name,
        "kind": kind,
        "bytes": gguf.stat().st_size,
        "sha256": proved["sha256"][kind],
        "export": {"worst_error": proved["worst_error"][kind], **{name: proved[name] for name in told}},
        "context": context,
        "ended": ended,
        **result,
    }


def kind_of(gguf: Path) -> Kind:
    """The type in an exported file's name."""
    return next(kind for kind in KINDS if gguf.stem.endswith(f"-{kind}"))


def licence_text(base: Base) -> str | None:
    """What stands in the base's LICENSE file; None where it has none."""
    found = sorted(path for path in base.folder.glob("LICEN[SC]E*") if path.is_file())
    return found[0].read_text(encoding="utf-8", errors="replace") if found else None


def list_versions(recipe: Recipe) -> list[Version]:
    """What the recipe's Ollama has of the model."""
    return versions(_ollama_of(recipe), recipe.deploy.name or recipe.name)


def go_back(recipe: Recipe, run: RunFolder) -> str:
    """Makes the version before the latest again; which that is. The run's own deployment is done anew the next time."""
    now = roll_back(_ollama_of(recipe), recipe.deploy.name or recipe.name)
    if run.manifest(NAME) is not None:
        run.set_aside(NAME)
    return now


def remove_version(recipe: Recipe, version: str) -> None:
    remove(_ollama_of(recipe), recipe.deploy.name or recipe.name, version)


def _ollama_of(recipe: Recipe) -> Ollama:
    """Raises RecipeError where the recipe deploys to no Ollama."""
    if recipe.deploy.to == EMBEDDED:
        raise RecipeError(_("deploy.to is embedded, which keeps no versions"), fix=_("name an Ollama: --to ollama"))
    return Ollama.from_environment() if recipe.deploy.to in ("auto", "ollama") else Ollama(address_of(recipe.deploy.to))


def require_destination(recipe: Recipe) -> None:
    """Raises, before any work, what would stop the deployment: no Ollama where it is asked for, a context that the base lacks."""
    choose_context(recipe)
    if recipe.deploy.to not in ("auto", EMBEDDED):
        _ollama_of(recipe).require_recent()
    wanted = recipe.deploy.type
    if wanted != "auto" and wanted not in recipe.export.types:
        raise _no_such_type(recipe)


def choose_ollama(recipe: Recipe, events: Events) -> Ollama | None:
    """The Ollama that the recipe means, or None for the embedded server. With ``auto`` one that is too old is passed over."""
    if recipe.deploy.to == EMBEDDED:
        return None
    if recipe.deploy.to != "auto":
        ollama = _ollama_of(recipe)
        ollama.require_recent()
        if ollama.is_open_to_others:
            text = _("{address} is not this machine, and what is sent there can be read on the way: use https, or a tunnel")
            events.warn(NAME, text.format(address=ollama.address))
        return ollama
    found = find_ollama()
    if found is None:
        if wanted := os.environ.get("OLLAMA_HOST"):
            events.warn(NAME, _("no Ollama answers at OLLAMA_HOST ({host}); the embedded server is taken").format(host=wanted))
        return None
    try:
        found.require_recent()
    except ServiceError as error:
        events.warn(NAME, error.what)
        return None
    return found


def choose_gguf(recipe: Recipe, run: RunFolder) -> Path:
    """The exported file that is deployed: of the wanted type, or the smallest one that keeps enough of the gain.

    Raises QualityError where none does and none is named.
    """
    exported = run.require(EXPORT)
    wanted = exported.result["chosen"] if recipe.deploy.type == "auto" else recipe.deploy.type
    if wanted is None:
        raise QualityError(
            _("no exported file keeps {share} of what training gained").format(share=format_share(recipe.export.keep_gain)),
            fix=_("export a larger type as well, as the export says; or name one all the same: --set deploy.type=TYPE"),
        )
    name = f"{recipe.name}-{wanted}.gguf"
    if name not in exported.outputs:
        raise _no_such_type(recipe)
    file = run.stage(EXPORT) / name
    if not file.is_file() or file.stat().st_size != exported.outputs[name]:
        raise _changed(file, recipe.name)
    return file


def _require_proved(file: Path, exported: Manifest, name: str) -> None:
    """Raises DataError for a file that is not, byte for byte, the one that export proved."""
    if sha256_of(file) != exported.result["sha256"][kind_of(file)]:
        raise _changed(file, name)


def _changed(file: Path, name: str) -> DataError:
    return DataError(
        _("{file} is gone or has changed since it was exported").format(file=file),
        fix=_("make it again with: afina export {name}").format(name=name),
    )


def choose_context(recipe: Recipe) -> int:
    """Tokens of a conversation: the recipe's, or up to 4,096 and at most what the base was made for."""
    limit = resolve_base(recipe.base, recipe.revision).context
    wanted = recipe.deploy.context
    if wanted == "auto":
        return min(AUTO_CONTEXT, limit)
    if wanted > limit:
        raise RecipeError(
            _("deploy.context is {wanted}; {base} holds {limit} tokens").format(wanted=wanted, base=recipe.base, limit=limit),
            fix=_("take deploy.context: auto"),
        )
    return wanted


def _answer_limit(recipe: Recipe, context: int) -> int:
    """Tokens within which an answer must end: as in the comparison, at most half of the context."""
    return min(recipe.compare.max_new_tokens, context // 2)


def _upload_progress(size: int, events: Events) -> Callable[[int], None]:
    """A listener to sent bytes that tells about a hundred times how far the upload is."""
    step = max(1, size // 100)
    told = 0

    def on_bytes(sent: int) -> None:
        nonlocal told
        if sent - told >= step or sent == size:
            told = sent
            events.emit(Progress(NAME, _("upload"), -(-sent // MIB), -(-size // MIB), "MiB"))

    return on_bytes


def _forget_if_gone(run: RunFolder, ollama: Ollama | None, latest: str, events: Events) -> None:
    """Sets a finished deployment aside whose model was deleted from Ollama since, so that it is made again."""
    manifest = run.manifest(NAME)
    if ollama is None or manifest is None or manifest.result["destination"] != "ollama":
        return
    if latest not in ollama.models():
        run.set_aside(NAME)
        events.info(NAME, _("{model} is no longer in Ollama").format(model=latest))


def _no_such_type(recipe: Recipe) -> RecipeError:
    wanted = recipe.deploy.type
    return RecipeError(
        _("deploy.type is {wanted}; export.types makes {types}").format(wanted=wanted, types=", ".join(recipe.export.types)),
        fix=_("add {wanted} to export.types, or take deploy.type: auto").format(wanted=wanted),
    )


def _ollama_result(model: OllamaModel) -> dict[str, Any]:
    return {
        "destination": "ollama",
        "model": model.latest,
        "version": model.version,
        "previous": model.previous,
        "text_compared": model.text_compared,
        "inside": model.inside,
        **_proof_result(model.proof),
    }


def _embedded_result(proof: Proof, gguf: Path) -> dict[str, Any]:
    return {
        "destination": EMBEDDED,
        "model": gguf.name,
        "version": None,
        "previous": None,
        "text_compared": True,
        "inside": None,
        **_proof_result(proof),
    }


def _proof_result(proof: Proof) -> dict[str, Any]:
    return {
        "question": proof.question,
        "answer": proof.answer,
        "tokens_per_second": None if proof.tokens_per_second is None else round(proof.tokens_per_second, 1),
        "checked": [asdict(check) for check in proof.checked],
    }


def _tell_differing(checked: Sequence[Mapping[str, Any]], events: Events) -> None:
    """Hard cases that the served model reads otherwise than training would have."""
    differing = [check["case"] for check in checked if not check["same_tokens"] or check["same_text"] is False]
    if differing:
        text = _("read otherwise than in training: {cases} (see {file}); do not rely on such questions")
        events.warn(NAME, text.format(cases=", ".join(differing), file=f"{NAME}/{PAGE}"))


def _summary(proof: Proof, model: str) -> str:
    text = (
        _("{model} answered and stopped by itself after {tokens} tokens")
        if proof.ended
        else _("{model} answered and did not stop within {tokens} tokens")
    )
    said = text.format(model=model, tokens=grouped(proof.answer_tokens))
    if proof.tokens_per_second is not None:
        said += ", " + _("{rate} tokens a second").format(rate=grouped(proof.tokens_per_second))
    return said
