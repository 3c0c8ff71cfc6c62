"""Answers of a model in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from afina.core.errors import DataError, QualityError
from afina.data.conversation import Message
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.infer import torch_local
from afina.infer.answer import Answer
from afina.infer.torch_local import TorchEngine
from tests.fakes.chain import SENTENCE, write_chain_model
from tests.fakes.models import FAMILIES, write_model

HELLO = [Message("user", "Hello?")]
QUESTIONS = [[Message("user", "hammer " * count + str(count))] for count in (1, 9, 3, 20, 5, 2)]


def engine_of(folder: Path) -> TorchEngine:
    tokenizer = Tokenizer.load(folder)
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return TorchEngine(model, tokenizer, choose_template("auto", tokenizer))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    return engine_of(write_chain_model(tmp_path_factory.mktemp("chain")))


def test_an_answer_ends_by_itself_and_its_ids_hold_the_end_token(chain: TorchEngine) -> None:
    answer = chain.answer(HELLO, 64)
    assert (answer.text, answer.finish, answer.ids[-1]) == (SENTENCE, "stop", 2)


def test_an_answer_that_is_cut_says_so(chain: TorchEngine) -> None:
    answer = chain.answer(HELLO, 3)
    assert answer.finish == "length"
    assert SENTENCE.startswith(answer.text)


def test_an_answer_that_ends_with_the_last_allowed_token_ended_by_itself(chain: TorchEngine) -> None:
    needed = len(chain.answer(HELLO, 64).ids)
    assert chain.answer(HELLO, needed).finish == "stop"


@pytest.mark.parametrize("family", FAMILIES)
def test_many_at_once_get_the_answers_that_each_gets_alone(family: str, tmp_path: Path) -> None:
    engine = engine_of(write_model(tmp_path, family))
    alone = [engine.greedy(engine.renderer.prompt_ids(question), 24) for question in QUESTIONS]
    early = alone[0][len(alone[0]) // 2]  # a token that ends some of them earlier than others
    engine.stop_ids = (*engine.stop_ids, early)
    alone = [ids[: ids.index(early) + 1] if early in ids else ids for ids in alone]
    many = engine.answer_many(QUESTIONS, 24)
    assert [list(answer.ids) for answer in many] == alone
    assert [answer.finish for answer in many] == ["stop" if ids[-1] in engine.stop_ids else "length" for ids in alone]


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
def test_the_tokens_are_those_of_transformers_own_generation(family: str, tmp_path: Path) -> None:
    engine = engine_of(write_model(tmp_path, family))
    prompt = engine.renderer.prompt_ids(HELLO)
    model: Any = engine.model
    wanted = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=list(engine.stop_ids))
    assert engine.greedy(prompt, 24) == wanted[0, len(prompt) :].tolist()


def test_a_margin_is_the_distance_of_the_two_greatest_logits(tmp_path: Path) -> None:
    engine = engine_of(write_model(tmp_path))
    prompt = engine.renderer.prompt_ids(HELLO)
    steps = engine.greedy_steps(prompt, 5)
    assert [step.id for step in steps] == engine.greedy(prompt, 5)
    with torch.inference_mode():
        logits = engine.model(torch.tensor([prompt])).logits[0, -1].topk(2)
    assert steps[0].id == logits.indices[0]
    assert steps[0].margin == pytest.approx(float(logits.values[0] - logits.values[1]), abs=1e-5)


def test_of_two_equal_tokens_the_lower_id_is_taken(chain: TorchEngine) -> None:
    steps, _chosen = torch_local._choose(torch.tensor([[0.0, 3.0, 3.0]]))
    assert (steps[0].id, steps[0].margin, steps[0].rivals) == (1, 0.0, {2: 0.0})


def test_rivals_are_the_tokens_that_rounding_could_choose_instead() -> None:
    steps, _chosen = torch_local._choose(torch.tensor([[3.0, 2.95, 0.0, 2.99], [1.0, 0.0, 0.0, 0.0]]))
    assert steps[0].rivals == pytest.approx({1: 0.05, 3: 0.01}, abs=1e-5)
    assert steps[1].rivals == {}


def test_every_answer_is_told_once_as_soon_as_its_batch_is_there(chain: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_local, "BATCH_ROWS", 2)
    heard: list[Mapping[int, Answer]] = []
    answers = chain.answer_many([HELLO] * 5, 32, heard.append)
    assert [len(found) for found in heard] == [2, 2, 1]
    assert [answer for found in heard for _place, answer in sorted(found.items())] == answers
    assert {answer.text for answer in answers} == {SENTENCE}


def test_batches_side_by_side_give_the_answers_of_one_after_the_other(tmp_path: Path) -> None:
    engine = engine_of(write_model(tmp_path, "qwen3"))
    before = torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            heard: list[Mapping[int, Answer]] = []
            answers = engine.answer_many(QUESTIONS, 24, heard.append)
            assert len(heard) == threads
            assert torch.get_num_threads() == threads
            found[threads] = [answer.ids for answer in answers]
    finally:
        torch.set_num_threads(before)
    assert found[1] == found[3]


def test_an_error_in_one_of_the_batches_side_by_side_is_raised(tmp_path: Path) -> None:
    engine = engine_of(write_chain_model(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(DataError, match="the model holds 2048"):
            engine.answer_many([HELLO, [Message("user", "hammer " * 5000)]], 4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_a_prompt_of_one_token_has_nothing_to_read_before_it(family: str, tmp_path: Path) -> None:
    engine = engine_of(write_model(tmp_path, family))
    model: Any = engine.model
    wanted = model.generate(torch.tensor([[7]]), max_new_tokens=6, do_sample=False, eos_token_id=list(engine.stop_ids))
    assert engine.greedy([7], 6) == wanted[0, 1:].tolist()


def test_batches_stay_within_their_tokens() -> None:
    lengths = [10, 8000, 30, 7000, 20]
    batches = list(torch_local._batches(lengths, 100))
    assert sorted(place for batch in batches for place in batch) == [0, 1, 2, 3, 4]
    assert batches == [[1, 3], [2, 4, 0]]


def test_no_question_gets_no_answer(chain: TorchEngine) -> None:
    assert chain.answer_many([], 8) == []


def test_a_prompt_beyond_the_context_is_an_error_with_both_numbers(chain: TorchEngine) -> None:
    with pytest.raises(DataError, match="the model holds 2048"):
        chain.greedy([5] * 3000, 1)


def test_generation_stops_where_the_context_ends(chain: TorchEngine) -> None:
    prompt = chain.renderer.prompt_ids(HELLO)
    chain_context = chain.context
    try:
        chain.context = len(prompt) + 4
        assert len(chain.greedy(prompt, 100)) == 4
    finally:
        chain.context = chain_context


def test_numbers_that_are_none_are_an_error(tmp_path: Path) -> None:
    engine = engine_of(write_chain_model(tmp_path))
    with torch.no_grad():
        next(engine.model.parameters()).fill_(float("nan"))
    with pytest.raises(QualityError, match="not finite"):
        engine.answer(HELLO, 4)


def test_the_number_of_threads_is_as_before(chain: TorchEngine) -> None:
    before = torch.get_num_threads()
    chain.answer(HELLO, 4)
    assert torch.get_num_threads() == before
