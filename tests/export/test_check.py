"""The proof: passes what is right, and fails, with the place, for each thing that can go wrong between training and serving."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from afina.core.errors import QualityError, ServiceError
from afina.data.conversation import Conversation, Message, Source
from afina.data.render import Renderer
from afina.data.template import ChatTemplate, choose_template
from afina.data.tokenizer import Tokenizer
from afina.export import gguf as export_gguf
from afina.export.check import NEAR_TIE, Reference, check_choices, check_ending, check_numbers, check_reading, refer
from afina.export.gguf import FilePlan, write_gguf
from afina.infer.llama import LlamaServer
from afina.infer.torch_local import Step, TorchEngine
from afina.model.base import Base, open_folder
from afina.model.load import load_model
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.chain import SENTENCE, write_chain_model
from tests.fakes.models import write_model

TOKENS = 24


def conversation(question: str, line: int = 1) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", "The answer.")), Source("shop.jsonl", line))


QUESTIONS = [conversation("Hello, what does the red hammer cost?", 1), conversation("¿Qué cuesta el martillo rojo hoy?", 2)]


class Exported:
    """A base with an adapter, its GGUF, its renderer."""

    def __init__(self, folder: Path, kind: Any, *, adapter: bool = True) -> None:
        self.base: Base = open_folder(write_model(folder / "base", "llama"), "base")
        self.adapter = folder / "adapter" if adapter else None
        write_peft_adapter(folder / "adapter", self.base.folder)
        tokenizer = Tokenizer.load(self.base.folder)
        self.renderer = Renderer.build(choose_template("auto", tokenizer), tokenizer)
        self.weights = MergedWeights(Checkpoint(self.base.folder), self.adapter)
        self.path = folder / "m.gguf"
        self.plan: FilePlan = write_gguf(
            self.path,
            base=self.base,
            weights=self.weights,
            tokenizer=tokenizer,
            template=self.renderer.template,
            kind=kind,
            name="shop",
        )

    def references(self) -> list[Reference]:
        model = load_model(
            self.base, dtype=torch.float32, device=torch.device("cpu"), adapter=self.path.parent / "adapter", attention="eager"
        )
        engine = TorchEngine(model, self.renderer.tokenizer, self.renderer.template)
        return list(refer(engine, QUESTIONS, TOKENS))

    def choices(self, server: LlamaServer, references: Sequence[Reference], stop_ids: Sequence[int] | None = None) -> Any:
        stops = self.plan.vocabulary.stop_ids if stop_ids is None else stop_ids
        return check_choices(server, references, self.renderer.tokenizer, stops, NEAR_TIE["f16"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"), "f16")


@pytest.fixture(scope="module")
def references(exported: Exported) -> list[Reference]:
    return exported.references()


@pytest.fixture(scope="module")
def server(exported: Exported) -> Iterator[LlamaServer]:
    with LlamaServer(exported.path, context=256, exact=True) as server:
        yield server


def test_a_right_file_passes_with_what_was_compared(exported: Exported, references: list[Reference], server: LlamaServer) -> None:
    found = exported.choices(server, references)
    tokens = [step.id for reference in references for step in reference.steps]
    assert (found.prompts, found.tokens, found.near_ties) == (2, len(tokens), ())
    assert found.early_ends == tokens.count(
        0
    )  # <|endoftext|>, which this base does not call an end and llama.cpp knows by its name
    assert check_reading(server, exported.renderer, QUESTIONS).conversations == 2
    numbers = check_numbers(exported.path, exported.plan, exported.weights)
    assert numbers.tensors == len(exported.plan.tensors)
    assert 0 < numbers.worst_error < 4e-4


def test_a_file_without_the_adapter_fails_where_the_answers_part(references: list[Reference], tmp_path: Path) -> None:
    bare = Exported(tmp_path, "f16", adapter=False)
    place = r"part at token \d+ of the answer to shop\.jsonl:\d: "
    what = place + r"torch chose \d+ '.+', llama\.cpp chose \d+ '.+'; torch's margin was"
    with LlamaServer(bare.path, context=256, exact=True) as server, pytest.raises(QualityError, match=what):
        bare.choices(server, references)


def test_a_missing_swap_of_rotary_halves_fails(exported: Exported, references: list[Reference], tmp_path: Path) -> None:
    """What the check is for: every tensor in its place, every number as written, and yet another model."""
    assert any(tensor.plan and tensor.plan.heads for tensor in exported.plan.tensors)
    straight = tuple(replace(tensor, plan=tensor.plan and replace(tensor.plan, heads=0)) for tensor in exported.plan.tensors)
    plan = replace(exported.plan, tensors=straight)
    path = tmp_path / "m.gguf"
    export_gguf._write_head(path, plan)
    export_gguf._append_tensors(path, plan, exported.weights, {}, None)
    check_numbers(path, plan, exported.weights)
    with LlamaServer(path, context=256, exact=True) as server, pytest.raises(QualityError, match="part at token"):
        exported.choices(server, references)


def with_other_choice(reference: Reference, place: int, margin: float, llama_id: int | None = None) -> Reference:
    """The reference as if torch had chosen another token at ``place``, ``margin`` above its true one, and nothing behind it."""
    step = reference.steps[place]
    other = Step((step.id + 1) % 300, margin, {step.id if llama_id is None else llama_id: margin})
    return replace(reference, steps=(*reference.steps[:place], other))


def test_a_near_tie_is_counted_and_the_comparison_goes_on_behind_torchs_token(
    exported: Exported, references: list[Reference], server: LlamaServer
) -> None:
    changed = with_other_choice(references[0], 3, margin=NEAR_TIE["f16"] / 2)
    ids = [*changed.prompt_ids, *(step.id for step in changed.steps)]
    behind = tuple(Step(token, 1.0, {}) for token in server.greedy(ids, 5))
    found = exported.choices(server, [replace(changed, steps=changed.steps + behind)])
    assert found.tokens == 4 + len(behind)
    (tie,) = found.near_ties
    assert (tie.position, tie.torch_id, tie.llama_id) == (3, changed.steps[3].id, references[0].steps[3].id)


@pytest.mark.parametrize("margin", [NEAR_TIE["f16"], 1.0])
def test_a_clear_margin_is_no_near_tie(
    margin: float, exported: Exported, references: list[Reference], server: LlamaServer
) -> None:
    with pytest.raises(QualityError, match=r"part at token 4 .* torch's margin was"):
        exported.choices(server, [with_other_choice(references[0], 3, margin)])


def test_a_third_token_is_no_near_tie(exported: Exported, references: list[Reference], server: LlamaServer) -> None:
    with pytest.raises(QualityError, match="part at token 4"):
        exported.choices(server, [with_other_choice(references[0], 3, 0.001, llama_id=299)])


def test_every_token_with_nearly_the_best_logit_is_a_rival(tmp_path: Path) -> None:
    """Pins a false alarm on a real base: tokens that it never saw in its own training have one logit, and rounding chooses."""
    base = open_folder(write_model(tmp_path, "llama", tie_word_embeddings=False), "base")
    model: Any = load_model(base, dtype=torch.float32, device=torch.device("cpu"))
    alike = list(range(50, 60))
    with torch.no_grad():
        model.lm_head.weight[alike] = 3 * model.lm_head.weight[50]
        model.lm_head.weight[51] *= 1.0001
    tokenizer = Tokenizer.load(base.folder)
    engine = TorchEngine(model, tokenizer, choose_template("auto", tokenizer))
    steps = [step for reference in refer(engine, QUESTIONS, TOKENS) for step in reference.steps if step.id in alike]
    assert steps
    for step in steps:
        assert {step.id, *step.rivals} >= set(alike)
        assert all(0 <= step.rivals[token] < NEAR_TIE["f16"] for token in alike if token != step.id)


def test_an_answer_that_torch_ends_and_llama_cpp_does_not_is_an_error(
    exported: Exported, references: list[Reference], server: LlamaServer
) -> None:
    """A stop id that is missing in the GGUF: the served model would talk on behind the end of its turn."""
    ended = replace(references[0], steps=references[0].steps[:5])
    with pytest.raises(QualityError, match="part at token 6 .* torch ended there"):
        exported.choices(server, [ended], stop_ids=[ended.steps[-1].id])


def test_a_crash_of_llama_cpp_is_an_error_of_the_service(exported: Exported, references: list[Reference]) -> None:
    if sys.platform == "win32":
        pytest.skip("signals of POSIX")
    with LlamaServer(exported.path, context=256, exact=True) as server:
        assert server._child is not None
        os.kill(server._child.pid, signal.SIGKILL)
        with pytest.raises(ServiceError, match="killed by SIGKILL"):
            exported.choices(server, references)


def test_another_template_in_the_file_fails_the_reading(exported: Exported, server: LlamaServer) -> None:
    template = ChatTemplate(
        "other", exported.renderer.template.source.replace("<|im_end|>\\n", "<|im_end|>"), exported.renderer.template.tokens
    )
    other = Renderer.build(template, exported.renderer.tokenizer)
    with pytest.raises(
        QualityError, match=r"reads shop\.jsonl:1 otherwise than training did: prompt, from token \d+ on .* instead of"
    ):
        check_reading(server, other, QUESTIONS)


def test_texts_that_a_template_trims_otherwise_are_counted_and_do_not_fail(tmp_path: Path) -> None:
    """Python's trim takes a no-break space away, llama.cpp's does not."""
    source = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + (m['content'] | trim) + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    base = open_folder(write_model(tmp_path, chat_template=source), "base")
    tokenizer = Tokenizer.load(base.folder)
    renderer = Renderer.build(choose_template("auto", tokenizer), tokenizer)
    write_gguf(
        tmp_path / "m.gguf",
        base=base,
        weights=MergedWeights(Checkpoint(tmp_path)),
        tokenizer=tokenizer,
        template=renderer.template,
        kind="f16",
        name="shop",
    )
    with LlamaServer(tmp_path / "m.gguf", context=256) as server:
        found = check_reading(server, renderer, [conversation("Hola\u00a0"), conversation(" Hola \n")])
    assert (found.conversations, found.untidy) == (2, 1)


def damage(path: Path, tensor: str) -> None:
    """Turns over one byte in the middle of a tensor's data."""
    reader = gguf.GGUFReader(path)
    place = next(found for found in reader.tensors if found.name == tensor)
    data = bytearray(path.read_bytes())
    data[place.data_offset + place.n_bytes // 2 + 1] ^= 0x7C
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("tensor", ["blk.0.attn_k.weight", "blk.1.ffn_norm.weight", "token_embd.weight"])
@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_a_damaged_number_is_found_and_its_tensor_named(tensor: str, kind: str, tmp_path: Path) -> None:
    made = Exported(tmp_path, kind)
    check_numbers(made.path, made.plan, made.weights)
    damage(made.path, tensor)
    with pytest.raises(QualityError, match=f"is not what was written: {tensor} "):
        check_numbers(made.path, made.plan, made.weights)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_is_told(kept: float, exported: Exported, tmp_path: Path) -> None:
    data = exported.path.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(QualityError, match=r"cut\.gguf is not what was written"):
        check_numbers(tmp_path / "cut.gguf", exported.plan, exported.weights)


def test_a_key_that_differs_is_named(exported: Exported) -> None:
    other = replace(exported.plan, keys={**exported.plan.keys, "llama.rope.freq_base": 123.0})
    with pytest.raises(QualityError, match=r"the key llama\.rope\.freq_base holds 10000\.0"):
        check_numbers(exported.path, other, exported.weights)


@pytest.mark.parametrize("ends", [True, False])
def test_an_answer_that_ends_is_found_and_an_endless_model_has_none(ends: bool, tmp_path: Path) -> None:
    base = open_folder(write_chain_model(tmp_path, ends=ends), "base")
    tokenizer = Tokenizer.load(base.folder)
    template = choose_template("auto", tokenizer)
    weights = MergedWeights(Checkpoint(tmp_path))
    write_gguf(tmp_path / "m.gguf", base=base, weights=weights, tokenizer=tokenizer, template=template, kind="q8_0", name="shop")
    with LlamaServer(tmp_path / "m.gguf", context=256) as server:
        assert check_ending(server, QUESTIONS, 2 * len(SENTENCE)) == (QUESTIONS[0].source if ends else None)
