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
import numpy as np
import pytest
import torch

from afina.core.errors import QualityError, ServiceError
from afina.data.conversation import Conversation, Message, Source
from afina.data.render import Renderer
from afina.data.template import ChatTemplate, choose_template
from afina.data.tokenizer import Tokenizer
from afina.export import gguf as export_gguf
from afina.export.check import (
    NEAR_TIE,
    ChoiceCheck,
    Judgement,
    Said,
    check_choices,
    check_ending,
    check_numbers,
    check_reading,
    judge,
    listen,
)
from afina.export.gguf import FilePlan, write_gguf
from afina.infer.llama import LlamaServer
from afina.infer.torch_local import TorchEngine
from afina.model.base import Base, open_folder
from afina.model.load import load_model
from afina.model.merge import MergedWeights
from afina.model.streamed import StreamedModel
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

    def judged(self, said: Sequence[Said]) -> list[Judgement]:
        """By torch, with the adapter beside the base."""
        adapter = self.path.parent / "adapter"
        model = StreamedModel(self.base, device=torch.device("cpu"), folder=self.path.parent, adapter=adapter)
        logs = model.log_probabilities([one.passage for one in said])
        return list(judge(said, (values.numpy() for values in logs)))

    def said(self, server: LlamaServer) -> list[Said]:
        return listen(server, self.renderer, QUESTIONS, TOKENS, self.plan.vocabulary.stop_ids)

    def choices(self, said: Sequence[Said], judged: Sequence[Judgement] | None = None, stops: Sequence[int] = ()) -> ChoiceCheck:
        stop_ids = stops or self.plan.vocabulary.stop_ids
        wanted = self.judged(said) if judged is None else judged
        return check_choices(said, wanted, self.renderer.tokenizer, stop_ids, NEAR_TIE["f16"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"), "f16")


@pytest.fixture(scope="module")
def server(exported: Exported) -> Iterator[LlamaServer]:
    with LlamaServer(exported.path, context=256, exact=True) as server:
        yield server


@pytest.fixture(scope="module")
def said(exported: Exported, server: LlamaServer) -> list[Said]:
    return exported.said(server)


def test_a_right_file_passes_with_what_was_compared(exported: Exported, said: list[Said], server: LlamaServer) -> None:
    found = exported.choices(said)
    tokens = [token for one in said for token in one.ids]
    assert (found.prompts, found.tokens, found.near_ties) == (2, len(tokens), ())
    # <|endoftext|>, which this base does not call an end and llama.cpp knows by its name
    assert found.early_ends == [token for one in said for token in (*one.ids, *one.more)].count(0)
    assert check_reading(server, exported.renderer, QUESTIONS).conversations == 2
    numbers = check_numbers(exported.path, exported.plan, exported.weights)
    assert numbers.tensors == len(exported.plan.tensors)
    assert 0 < numbers.worst_error < 4e-4


def test_what_torch_would_say_is_what_it_says(exported: Exported, said: list[Said]) -> None:
    """A text that is read gives the choices of a text that is made."""
    model = load_model(exported.base, dtype=torch.float32, device=torch.device("cpu"), adapter=exported.path.parent / "adapter")
    engine = TorchEngine(model, exported.renderer.tokenizer, exported.renderer.template)
    for one, judgement in zip(said, exported.judged(said), strict=True):
        assert list(judgement.choices) == engine.greedy(one.prompt_ids, len(one.ids))


def test_a_file_without_the_adapter_fails_where_the_answers_part(exported: Exported, tmp_path: Path) -> None:
    bare = Exported(tmp_path, "f16", adapter=False)
    place = r"part at token \d+ of the answer to shop\.jsonl:\d: "
    what = place + r"torch chose \d+ '.+', llama\.cpp chose \d+ '.+'; torch's margin was"
    with LlamaServer(bare.path, context=256, exact=True) as server:
        said = bare.said(server)
    with pytest.raises(QualityError, match=what):
        exported.choices(said)


def test_a_missing_swap_of_rotary_halves_fails(exported: Exported, tmp_path: Path) -> None:
    """What the check is for: every tensor in its place, every number as written, and yet another model."""
    assert any(tensor.plan and tensor.plan.heads for tensor in exported.plan.tensors)
    straight = tuple(replace(tensor, plan=tensor.plan and replace(tensor.plan, heads=0)) for tensor in exported.plan.tensors)
    plan = replace(exported.plan, tensors=straight)
    path = tmp_path / "m.gguf"
    export_gguf._write_head(path, plan)
    export_gguf._append_tensors(path, plan, exported.weights, {}, None)
    check_numbers(path, plan, exported.weights)
    with LlamaServer(path, context=256, exact=True) as server:
        said = exported.said(server)
    with pytest.raises(QualityError, match="part at token"):
        exported.choices(said)


def with_other_choice(said: Said, place: int, ahead: float) -> Judgement:
    """As if torch found another token ``ahead`` at ``place``, and agreed elsewhere."""
    choices = [*said.ids]
    choices[place] = (choices[place] + 1) % 300
    return Judgement(tuple(choices), tuple(ahead if number == place else 0.0 for number in range(len(choices))))


def test_a_near_tie_is_counted_and_the_comparison_goes_on_behind_it(exported: Exported, said: list[Said]) -> None:
    judgement = with_other_choice(said[0], 3, NEAR_TIE["f16"] / 2)
    found = exported.choices(said[:1], [judgement])
    assert found.tokens == len(said[0].ids)
    (tie,) = found.near_ties
    assert (tie.position, tie.torch_id, tie.llama_id) == (3, judgement.choices[3], said[0].ids[3])
    last = replace(judgement, choices=(*judgement.choices[:-1], 299), ahead=(*judgement.ahead[:-1], 1.0))
    with pytest.raises(QualityError, match=f"part at token {len(said[0].ids)} "):
        exported.choices(said[:1], [last])


@pytest.mark.parametrize("ahead", [NEAR_TIE["f16"], 1.0])
def test_a_clear_margin_is_no_near_tie(ahead: float, exported: Exported, said: list[Said]) -> None:
    with pytest.raises(QualityError, match=r"part at token 4 .* torch's margin was"):
        exported.choices(said[:1], [with_other_choice(said[0], 3, ahead)])


def test_tokens_with_nearly_the_best_logit_are_near_ties(tmp_path: Path) -> None:
    """Pins a false alarm on a real base: tokens that it never saw in its own training have one logit, and rounding chooses."""
    made = Exported(tmp_path, "f16", adapter=False)
    logs = np.full((1, 300), -9.0, np.float32)
    logs[0, 50:60] = -1.0
    logs[0, 51] += 1e-4
    said = [Said(Source("shop.jsonl", 1), (5, 6), (57,))]
    found = made.choices(said, list(judge(said, [logs])))
    (tie,) = found.near_ties
    assert (tie.torch_id, tie.llama_id) == (51, 57)
    assert tie.margin == pytest.approx(1e-4, rel=1e-2)


def test_numbers_that_are_none_are_an_error() -> None:
    said = [Said(Source("shop.jsonl", 1), (5, 6), (57,))]
    with pytest.raises(QualityError, match="the model's output is not finite"):
        list(judge(said, [np.full((1, 300), np.nan, np.float32)]))


@pytest.mark.parametrize("place", [4, TOKENS - 1])
def test_an_answer_that_torch_ends_and_llama_cpp_does_not_is_an_error(place: int, exported: Exported, said: list[Said]) -> None:
    """A stop id that is missing in the GGUF: the served model would talk on behind the end of its turn."""
    ends = next(number for number in range(300) if number not in said[0].ids)
    wrong = replace(said[0], ids=(*said[0].ids[:place], ends, *said[0].ids[place + 1 :]), more=(7,))
    agreed = Judgement(wrong.ids, (0.0,) * len(wrong.ids))
    with pytest.raises(QualityError, match=f"part at token {place + 2} .* torch ended there"):
        exported.choices([wrong], [agreed], stops=[ends])


def test_a_crash_of_llama_cpp_is_an_error_of_the_service(exported: Exported) -> None:
    if sys.platform == "win32":
        pytest.skip("signals of POSIX")
    with LlamaServer(exported.path, context=256, exact=True) as server:
        assert server._child is not None
        os.kill(server._child.pid, signal.SIGKILL)
        with pytest.raises(ServiceError, match="killed by SIGKILL"):
            exported.said(server)


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
