import random
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from afina.data.conversation import Source
from afina.data.render import Row
from afina.infer import score
from afina.infer.score import score_rows
from tests.fakes.rows import row_of

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
FAMILIES: dict[str, Any] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"attn_implementation": "sdpa", "tie_word_embeddings": True}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"attn_implementation": "sdpa"}),
    # A window of 8 is shorter than the rows; caps this low bend the logits.
    "gemma2": (
        Gemma2ForCausalLM,
        Gemma2Config,
        {"attn_implementation": "eager", "head_dim": 8, "final_logit_softcapping": 3.0, "sliding_window": 8},
    ),
}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    kind, config, more = FAMILIES[request.param]
    torch.manual_seed(0)
    built: PreTrainedModel = kind(config(**SIZES, **more)).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(5)  # away from uniform predictions
    return built


def rows(count: int, seed: int = 1) -> list[Row]:
    chance = random.Random(seed)
    made = []
    for number in range(count):
        length = chance.randint(2, 40)
        trained = [False, *(chance.random() < 0.5 for _place in range(length - 1))]
        trained[-1] = True
        ids = tuple(chance.randrange(97) for _place in range(length))
        made.append(row_of(ids, tuple(trained), Source("rows.jsonl", number + 1)))
    return made


def transformers_sum(model: PreTrainedModel, row: Row) -> float:
    """The same by transformers' own loss, which is a mean over the labels that are not -100."""
    labels = torch.tensor([[token if on else -100 for token, on in zip(row.ids, row.trained, strict=True)]])
    with torch.inference_mode():
        return float(model.forward(input_ids=torch.tensor([list(row.ids)]), labels=labels).loss) * row.trained_tokens


def test_the_loss_is_transformers_own(model: PreTrainedModel) -> None:
    examples = rows(12)
    for row, (total, count) in zip(examples, score_rows(model, examples, batch_tokens=128), strict=True):
        assert count == row.trained_tokens
        assert total == pytest.approx(transformers_sum(model, row), rel=1e-5)


def test_a_row_has_the_same_loss_alone_and_among_others(model: PreTrainedModel) -> None:
    examples = rows(12)
    together = score_rows(model, examples, batch_tokens=512)
    alone = [score_rows(model, [row])[0] for row in examples]
    assert [total for total, _count in together] == pytest.approx([total for total, _count in alone], rel=1e-5)


def test_the_head_in_pieces_changes_nothing(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = rows(6)
    whole = score_rows(model, examples)
    monkeypatch.setattr(score, "HEAD_ROWS", 3)
    assert [total for total, _count in score_rows(model, examples)] == pytest.approx([total for total, _count in whole], rel=1e-5)


def test_a_first_token_and_a_row_without_trained_tokens_count_nothing(model: PreTrainedModel) -> None:
    source = Source("rows.jsonl", 1)
    nothing, first_only = row_of((5, 6, 7), (False,) * 3, source), row_of((5, 6, 7), (True, False, False), source)
    assert score_rows(model, [nothing, first_only]) == [(0.0, 0), (0.0, 0)]
    assert score_rows(model, []) == []


def test_progress_counts_every_row_once(model: PreTrainedModel) -> None:
    seen: list[int] = []
    score_rows(model, rows(7), batch_tokens=64, on_progress=seen.append)
    assert seen[-1] == 7
    assert sorted(seen) == seen
