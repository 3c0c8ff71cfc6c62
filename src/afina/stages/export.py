"""Export: the base with the trained adapter worked in, as GGUF files that are proved to be the model that was trained."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from afina import __version__
from afina.compare.comparison import ANSWERS, Performance
from afina.core.errors import DataError, QualityError, ResourceError
from afina.core.events import Events, Progress
from afina.core.files import require_disk, sha256_of
from afina.core.hardware import memory
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import MIB, format_bytes, format_share
from afina.data.conversation import Conversation
from afina.data.render import Renderer, Row
from afina.data.store import load_conversations, load_rows
from afina.data.tokenizer import Tokenizer
from afina.export.adapter_file import write_adapter_file
from afina.export.check import (
    NEAR_TIE,
    ChoiceCheck,
    NearTie,
    Said,
    check_choices,
    check_ending,
    check_merging,
    check_numbers,
    check_reading,
    judge,
    listen,
    near_tie,
)
from afina.export.encode import has_native_kernel
from afina.export.gguf import FilePlan, OnBytes, bytes_of_file, plan_gguf, write_gguf
from afina.export.importance import importance_of
from afina.export.kernels import NATIVE_ONLY, missing_kernels
from afina.export.ladder import smallest_that_keeps, spread
from afina.export.rungs import Marks, Rung, aligned, records
from afina.export.written import WrittenWeights
from afina.infer.llama import LlamaServer
from afina.model.base import Base, describe, resolve_base
from afina.model.load import choose_device
from afina.model.merge import MergedWeights
from afina.model.streamed import OnLayer, Passage, StreamedModel
from afina.model.streamed import bytes_needed as memory_needed
from afina.model.weights import Checkpoint, Float32
from afina.recipe.kinds import KINDS, Kind
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.exam import Exam, answers_of_merged, mark, set_exam, shortened, sit
from afina.stages.ladder import Subject, Torch, ask_torch, rung_of_adapter, rung_of_file, rungs_of_torch
from afina.stages.prepare import NAME as PREPARE
from afina.stages.renderer import build_renderer
from afina.stages.stage import Outcome, StageWork, run_stage
from afina.stages.tuned import Tuned, tuned_model
from afina.train.loop import STAGE as TRAIN

NAME = "export"
READ_CONVERSATIONS = 64  # held-out conversations whose tokens are compared
ASKED_TO_END = 3  # prompts that a file may try until one answer ends by itself
SERVED_CONTEXT = 4096
_ADAPTER_ALLOWED = 0.01  # nats a place by which an adapter beside a rounded base may be off, besides twice what the file is off
NEEDS_NONE: tuple[Kind, ...] = ("f32", "f16", "bf16", "q8_0")  # types that an importance matrix does not change


@dataclass(frozen=True)
class ExportResult:
    """The files by type, and their proof.

    ``compared`` types gave torch's ``tokens`` on ``prompts``; ``conversations`` were read alike; ``ends``: an answer ended.
    ``near_ties``: places where rounding decided between two tokens; ``early_ends``: answers that llama.cpp ends at a token whose
    name it knows; ``untidy``: conversations with unusual blanks or accents, which llama.cpp reads as other tokens.
    ``ladder``: what held-out examples cost at each step (``rungs.Rung``), and what their ``marks`` are (``rungs.Marks``);
    ``merged_onto``: the weights that the adapter was worked into; ``chosen``: the type that is deployed, None where no file keeps
    enough of the gain; ``adapter_file``: name, bytes and hash of the adapter's own file, where the recipe wants one.
    """

    files: dict[str, Path]
    sizes: dict[str, int]
    sha256: dict[str, str]
    seconds: dict[str, float]
    worst_error: dict[str, float]
    ends: dict[str, bool]
    compared: list[str]
    prompts: int
    tokens: int
    near_ties: list[dict[str, Any]]
    early_ends: int
    conversations: int
    untidy: int
    ladder: list[dict[str, Any]]
    merged_onto: str
    chosen: str | None
    adapter_file: dict[str, Any] | None = None
    marks: dict[str, Any] | None = None


def export(recipe: Recipe, run: RunFolder, events: Events) -> ExportResult:
    """Exports the run's trained model.

    Raises ResourceError before anything is written where disk or memory do not suffice, QualityError where a file is not the
    model that was trained, with the place.
    """
    prepared, trained = run.require(PREPARE), run.require(TRAIN)
    base = resolve_base(recipe.base, recipe.revision)
    renderer = build_renderer(recipe, base)
    tuned = tuned_model(base, run)
    weights = MergedWeights(Checkpoint(tuned.base.folder), tuned.adapter)
    plans = {kind: plan_gguf(tuned.base, weights, renderer, kind, recipe.name) for kind in _kinds(recipe)}
    require_kernels(recipe)
    held_out = load_conversations(run.stage(PREPARE), "test")
    asked = choose_prompts(held_out, renderer, recipe.export.check_prompts, base.context - recipe.export.check_tokens)
    quantize = recipe.adapter.quantize if tuned.adapter else "none"

    def work(folder: Path) -> Outcome:
        questions = set_exam(recipe, run, renderer, base, NAME)
        rows = load_rows(run.stage(PREPARE), "test")
        subject = Subject(
            base, tuned.base, tuned.adapter, quantize, _device(recipe, tuned.base, rows), folder, _layer_progress(events)
        )
        largest = max(map(bytes_of_file, plans.values()))  # of the base in one type after the other, to be measured beside it
        require_disk(folder, _bytes(plans) + largest, _("the GGUF files of {name}").format(name=recipe.name))
        for note in next(iter(plans.values())).layout.notes:
            events.warn(NAME, note)
        torch_says = ask_torch(subject, rows)
        rounded = _block_matrices(plans) if torch_says.onto == "nf4" else ()
        merged = MergedWeights(Checkpoint(tuned.base.folder), tuned.adapter, rounded)
        importance = _importance(subject, load_rows(run.stage(PREPARE), "train"), plans, events) if recipe.export.imatrix else {}
        beside = folder / adapter_name(recipe) if recipe.export.adapter_file else None
        model = _Model(recipe, subject, "nf4" if rounded else "none", renderer, merged, plans, importance, questions)
        paths = {kind: folder / file_name(recipe, kind) for kind in plans}
        result = _write(model, paths, events) | _prove(model, paths, held_out, asked, events)
        if beside is not None:
            write_adapter_file(beside, folder=_adapter(tuned), layout=next(iter(plans.values())).layout, name=recipe.name)
        result["sizes"] = {kind: path.stat().st_size for kind, path in paths.items()}
        result["sha256"] = {kind: sha256_of(path) for kind, path in paths.items()}
        rungs, marks = _climb(model, torch_says, paths, result["sha256"], beside, events)
        result["ladder"], result["marks"], result["merged_onto"] = records(rungs), asdict(marks), torch_says.onto
        result["chosen"] = _choose(recipe, rungs, result["sizes"], events)
        result["adapter_file"] = beside and _record_of(beside)
        more = [path for path in (beside, folder / ANSWERS) if path is not None and path.is_file()]
        return Outcome(result, [*paths.values(), *more], _summary(result))

    manifest = run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "afina": __version__,
                "prepare": fingerprint.of_stage(prepared),
                "train": fingerprint.of_stage(trained),
                "base": fingerprint.of_base(base),
                "tokenizer": fingerprint.of_tokenizer(base),
                "recipe": fingerprint.of_settings(
                    recipe.export, recipe.name, renderer.template.source, recipe.compare.max_new_tokens
                ),
            },
            plan=lambda: _("{base} as {types}, {size}; then {prompts} prompts of {tokens} tokens each against torch").format(
                base=describe(base),
                types=", ".join(recipe.export.types),
                size=format_bytes(_bytes(plans)),
                prompts=len(asked),
                tokens=recipe.export.check_tokens,
            ),
            work=work,
        ),
    )
    files = {kind: run.stage(NAME) / file_name(recipe, kind) for kind in manifest.result["sizes"]}
    return ExportResult(**manifest.result, files=files)


def bytes_needed(recipe: Recipe, base: Base) -> int:
    """Disk that the files will take, known before training. Raises DataError where llama.cpp could not read this base."""
    renderer, weights = build_renderer(recipe, base), MergedWeights(Checkpoint(base.folder))
    return _bytes({kind: plan_gguf(base, weights, renderer, kind, recipe.name) for kind in _kinds(recipe)})


def file_name(recipe: Recipe, kind: str) -> str:
    return f"{recipe.name}-{kind}.gguf"


def adapter_name(recipe: Recipe) -> str:
    return f"{recipe.name}-adapter.gguf"


def choose_prompts(held_out: Sequence[Conversation], renderer: Renderer, count: int, room: int) -> list[Conversation]:
    """``count`` held-out conversations from all over the list, whose prompts have at most ``room`` tokens."""
    fitting = [talk for talk in held_out if len(renderer.prompt_ids(talk.prompt, talk.tools)) <= room]
    if not fitting:
        raise DataError(
            _("{count} held-out examples, none of which leaves room for an answer: the export cannot be checked").format(
                count=len(held_out)
            ),
            fix=_("raise data.split.test, add shorter examples, or lower export.check_tokens"),
        )
    return spread(fitting, count)


def require_kernels(recipe: Recipe) -> None:
    """Raises ResourceError for a type that only llama.cpp's own code makes, where the prebuilt library does not offer it."""
    wanted = [kind for kind in recipe.export.types if kind in NATIVE_ONLY or (recipe.export.imatrix and kind not in NEEDS_NONE)]
    if wanted and not has_native_kernel():
        raise missing_kernels(wanted)


def _kinds(recipe: Recipe) -> tuple[Kind, ...]:
    return tuple(dict.fromkeys(recipe.export.types))


@dataclass(frozen=True)
class _Model:
    """What is exported, and how. ``onto``: the weights that the adapter is worked into; ``exam``: what its files are asked."""

    recipe: Recipe
    subject: Subject
    onto: Literal["none", "nf4"]
    renderer: Renderer
    weights: MergedWeights
    plans: dict[Kind, FilePlan]
    importance: dict[str, Float32]
    exam: Exam

    @property
    def base(self) -> Base:
        return self.subject.tuned


def _block_matrices(plans: dict[Kind, FilePlan]) -> list[str]:
    """The linear layers that NF4 is for: all but embedding and output."""
    layout = next(iter(plans.values())).layout
    return [plan.source for plan in layout.tensors if plan.name.startswith("blk.") and len(plan.shape) == 2]


def _importance(subject: Subject, rows: Sequence[Row], plans: dict[Kind, FilePlan], events: Events) -> dict[str, Float32]:
    events.info(NAME, _("importance matrix from the training examples"))
    return importance_of(subject.tuned_model("none"), rows, next(iter(plans.values())).layout.tensors)


def _climb(
    model: _Model, torch_says: Torch, paths: dict[Kind, Path], sha256: dict[str, str], beside: Path | None, events: Events
) -> tuple[list[Rung], Marks]:
    """The rungs from the base to each file, the largest one first, and what their marks are; each file's base is written, asked
    and deleted.

    ``beside``: the adapter's own file, which is asked with the largest of them.
    """
    recipe, base = model.recipe, model.subject.base
    vocabulary, resamples, seed = int(base.config["vocab_size"]), recipe.compare.resamples, recipe.data.split.seed
    rungs = rungs_of_torch(torch_says, model.subject.quantize)
    order = sorted(paths, key=lambda kind: -bytes_of_file(model.plans[kind]))
    exam, answers = model.exam, list[Performance]()
    for done, kind in enumerate(order):
        events.emit(Progress(NAME, _("held-out examples"), done, len(order), _("files")))
        rounded_base = paths[kind].with_name(f"{paths[kind].stem}-base.gguf")
        try:
            write_gguf(
                rounded_base,
                base=base,
                weights=MergedWeights(Checkpoint(base.folder)),
                tokenizer=model.renderer.tokenizer,
                template=model.renderer.template,
                kind=kind,
                name=recipe.name,
                importance=_for_kind(model, kind),
            )
            rung = rung_of_file(torch_says, kind, paths[kind], rounded_base, vocabulary, resamples=resamples, seed=seed)
            rungs.append(rung)
            assert rung.tokens_per_second is not None  # of a file it is measured
            exam = exam if done else shortened(exam, rung.tokens_per_second, models=2 * len(order) + 1)
            answers += sit(exam, kind, paths[kind], sha256[kind], rounded_base, events)
            if beside is not None and not done:
                allowed = _ADAPTER_ALLOWED + 2 * (rung.divergence or 0.0)
                rungs.append(rung_of_adapter(torch_says, kind, rounded_base, beside, vocabulary, allowed))
        finally:
            rounded_base.unlink(missing_ok=True)
    events.emit(Progress(NAME, _("held-out examples"), len(order), len(order), _("files")))
    of_merged, needed = answers_of_merged(exam, model.subject, model.onto, events)
    folder = model.subject.folder
    marked, marks = mark(exam, [*of_merged, *answers], rungs, folder, resamples=resamples, seed=seed)
    marks = replace(marks, merged_needs=needed)
    for line in (*aligned(marked, marks), *marks.words()):
        events.info(NAME, line)
    return marked, marks


def _choose(recipe: Recipe, rungs: Sequence[Rung], sizes: dict[str, int], events: Events) -> str | None:
    """The type to deploy; a warning where no file keeps enough, or where there was nothing to keep."""
    files = {rung.step: rung for rung in rungs if rung.step in sizes}
    kept = {kind: None if rung.kept is None else rung.kept.value for kind, rung in files.items()}
    chosen = smallest_that_keeps(kept, sizes, recipe.export.keep_gain)
    if all(share is None for share in kept.values()):
        events.warn(NAME, _("the held-out examples show no gain over the base: there is nothing to keep"))
    elif chosen is None:
        shares = ", ".join(f"{kind} {format_share(share)}" for kind, share in kept.items() if share is not None)
        larger = KINDS[max(KINDS.index(max(files, key=lambda kind: sizes[kind])) - 1, KINDS.index("f16"))]
        events.warn(
            NAME,
            _("no file keeps {wanted} of the gain ({shares}): try a larger one, --set export.types=[{larger}]").format(
                wanted=format_share(recipe.export.keep_gain), shares=shares, larger=larger
            ),
        )
    return chosen


def _for_kind(model: _Model, kind: Kind) -> dict[str, Float32]:
    return {} if kind in NEEDS_NONE else model.importance


def _write(model: _Model, paths: dict[Kind, Path], events: Events) -> dict[str, Any]:
    """Writes each file and reopens it."""
    seconds, worst_error = {}, {}
    for kind, path in paths.items():
        start = time.monotonic()
        plan = write_gguf(
            path,
            base=model.base,
            weights=model.weights,
            tokenizer=model.renderer.tokenizer,
            template=model.renderer.template,
            kind=kind,
            name=model.recipe.name,
            importance=_for_kind(model, kind),
            progress=_byte_progress(path.name, events),
        )
        seconds[kind] = round(time.monotonic() - start, 2)
        checked = _byte_progress(_("{file} read again").format(file=path.name), events)
        worst_error[kind] = check_numbers(path, plan, model.weights, _for_kind(model, kind), checked).worst_error
    return {"seconds": seconds, "worst_error": worst_error}


def _prove(
    model: _Model, paths: dict[Kind, Path], held_out: Sequence[Conversation], asked: Sequence[Conversation], events: Events
) -> dict[str, Any]:
    """What each file reads and chooses, by llama.cpp, against our own."""
    recipe, stop_ids = model.recipe, next(iter(model.plans.values())).vocabulary.stop_ids
    most = recipe.export.check_tokens
    context = max(len(model.renderer.prompt_ids(talk.prompt, talk.tools)) for talk in asked) + most + 2
    choices: dict[Kind, ChoiceCheck] = {}
    reading = None
    for kind in _compared(paths):
        with LlamaServer(paths[kind], context=context, exact=True) as server:
            reading = reading or check_reading(server, model.renderer, spread(held_out, READ_CONVERSATIONS))
            said = listen(server, model.renderer, asked, most, stop_ids)
        choices[kind] = _judged(model, kind, paths[kind], said, stop_ids)
    assert reading is not None  # one file at least is compared
    if reading.untidy:
        text = _("{count} of {all} held-out examples have unusual blanks or accents, which llama.cpp reads as other tokens")
        events.warn(NAME, text.format(count=reading.untidy, all=reading.conversations))
    return {
        "compared": list(choices),
        "prompts": len(asked),
        "tokens": sum(choice.tokens for choice in choices.values()),
        "near_ties": [
            _record(kind, tie, model.renderer.tokenizer) for kind, choice in choices.items() for tie in choice.near_ties
        ],
        "early_ends": sum(choice.early_ends for choice in choices.values()),
        "conversations": reading.conversations,
        "untidy": reading.untidy,
        "ends": _endings(model, paths, asked[:ASKED_TO_END], events),
    }


def _compared(kinds: Iterable[Kind]) -> list[Kind]:
    """The types whose files can be compared with the adapter beside its base; where there is none, the least rounded one."""
    there = sorted(kinds, key=KINDS.index)
    return [kind for kind in there if kind in NEAR_TIE] or there[:1]


def _judged(model: _Model, kind: Kind, path: Path, said: Sequence[Said], stop_ids: Sequence[int]) -> ChoiceCheck:
    """What torch finds of what llama.cpp said with a file.

    A file of 16 bits or more is compared with the adapter beside the base, not worked in. Any other one is rounded too much for
    that: then torch computes with the numbers of the file, and the adapter worked in is compared with the adapter beside.
    """
    passages = [one.passage for one in said]
    beside = model.subject.tuned_model(model.onto)
    if kind in NEAR_TIE:
        reference = beside
    else:
        if model.subject.adapter is not None:
            merged = model.subject.model_of(model.weights)
            check_merging(_arrays(beside, passages), _arrays(merged, passages))
        plan = plan_gguf(model.base, model.weights, model.renderer, kind, model.recipe.name, importance=_for_kind(model, kind))
        reference = model.subject.model_of(WrittenWeights(path, plan))
    judged = list(judge(said, _arrays(reference, passages)))
    return check_choices(said, judged, model.renderer.tokenizer, stop_ids, near_tie(kind))


def _arrays(model: StreamedModel, passages: Sequence[Passage]) -> Iterator[NDArray[np.float32]]:
    return (logs.numpy() for logs in model.log_probabilities(passages))


def _endings(model: _Model, paths: dict[Kind, Path], asked: Sequence[Conversation], events: Events) -> dict[str, bool]:
    """Whether an answer of each file ends by itself.

    Raises QualityError where those of the less rounded files do and those of a more rounded one never do.
    """
    context = min(SERVED_CONTEXT, model.base.context)
    limit = min(model.recipe.compare.max_new_tokens, context // 2)
    short = choose_prompts(asked, model.renderer, len(asked), context - limit)
    ends = {}
    for kind, path in paths.items():
        with LlamaServer(path, context=context) as server:
            ends[str(kind)] = check_ending(server, short, limit) is not None
    if not any(ends.values()):
        events.warn(NAME, _("no answer ended within {limit} tokens: the model may need longer training").format(limit=limit))
    elif all(ends[kind] for kind in _compared(paths)) and (endless := [kind for kind, ended in ends.items() if not ended]):
        raise QualityError(
            _("answers of {endless} do not end within {limit} tokens; those of {others} do").format(
                endless=", ".join(endless), limit=limit, others=", ".join(kind for kind, ended in ends.items() if ended)
            ),
            fix=_("leave that type out: --set export.types=[{kinds}]").format(
                kinds=",".join(kind for kind in model.recipe.export.types if ends[kind]) or "f16"
            ),
        )
    return ends


def _device(recipe: Recipe, base: Base, rows: Sequence[Row]) -> torch.device:
    """Where torch is asked: the GPU where the recipe allows it and a layer has room there, else the CPU.

    Raises ResourceError where there is no room either.
    """
    needed = memory_needed(base, max((len(row.ids) for row in rows), default=1))
    device = choose_device(recipe.train.device)
    if device.type == "cuda" and torch.cuda.mem_get_info(device)[0] >= needed:
        return device
    found = memory()
    if found is not None and needed > found.available_bytes:
        raise ResourceError(
            _(
                "checking the export needs {needed} of memory, for a layer of the model and the longest row; {free} are free"
            ).format(needed=format_bytes(needed), free=format_bytes(found.available_bytes)),
            fix=_("close other programs, or export on a machine with more memory"),
        )
    return torch.device("cpu")


def _adapter(tuned: Tuned) -> Path:
    assert tuned.adapter is not None  # the recipe asks for no adapter's file where the training leaves none
    return tuned.adapter


def _record_of(file: Path) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_of(file)}


def _bytes(plans: dict[Kind, FilePlan]) -> int:
    return sum(map(bytes_of_file, plans.values()))


def _record(kind: str, tie: NearTie, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "type": kind,
        "source": str(tie.source),
        "position": tie.position,
        "torch": tokenizer.token(tie.torch_id),
        "llama": tokenizer.token(tie.llama_id),
        "margin": round(tie.margin, 5),
    }


def _byte_progress(name: str, events: Events) -> OnBytes:
    """A listener to written bytes that tells at most about a hundred times how far the file is."""
    told = 0

    def on_bytes(written: int, total: int) -> None:
        nonlocal told
        if written - told >= total // 100 or written == total:
            told = written
            events.emit(Progress(NAME, name, written // MIB, total // MIB, "MiB"))

    return on_bytes


def _layer_progress(events: Events) -> OnLayer:
    return lambda done, layers: events.emit(Progress(NAME, _("torch's answers"), done, layers, _("layers")))


def _summary(result: dict[str, Any]) -> str:
    """``f16 8.1 MiB, q8_0 4.4 MiB; 384 tokens on 8 prompts as torch's, 1 near tie; 40 held-out examples read alike``."""
    files = ", ".join(f"{kind} {format_bytes(size)}" for kind, size in result["sizes"].items())
    text = _("{files}; {tokens} tokens on {prompts} prompts as torch's").format(
        files=files, tokens=result["tokens"], prompts=result["prompts"]
    )
    if result["near_ties"]:
        text += _(", near ties: {count}").format(count=len(result["near_ties"]))
    return text + _("; {count} held-out examples read alike").format(count=result["conversations"])
