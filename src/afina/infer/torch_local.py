"""Answers from a transformers model in this process: greedy, with a cache, one by one or many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from afina.core.errors import DataError, QualityError
from afina.core.translation import _
from afina.data.conversation import Message
from afina.data.render import Renderer
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer
from afina.infer.answer import BATCH_ROWS, Answer

BATCH_TOKENS = 16_384  # prompt and answer tokens in the cache at once
RIVAL = 0.1  # a logit this little below the greatest may be the greatest after rounding
SMALL_MODEL = 32_000_000  # parameters; below, on a CPU, one thread is up to 40 times faster where other programs work as well


@dataclass(frozen=True)
class Step:
    """One generated token. ``margin``: its logit minus the second greatest; near zero means that rounding decides.

    ``rivals``: the tokens whose logit is less than RIVAL below, with their distance.
    """

    id: int
    margin: float
    rivals: dict[int, float]


class TorchEngine:
    """A model that answers with its most probable tokens; of two equal ones the lower id.

    ``model`` is in eval mode. An answer ends at the tokenizer's end tokens or at the template's end-of-turn token.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.model = model
        self.renderer = Renderer.build(template, tokenizer)
        self.stop_ids = tuple(dict.fromkeys((*tokenizer.end_ids, self.renderer.end_of_turn_id)))
        self.context = int(model.config.get_text_config().max_position_embeddings)

    def answer(self, messages: Sequence[Message], max_new_tokens: int) -> Answer:
        return self.answer_many([messages], max_new_tokens)[0]

    def answer_many(
        self,
        conversations: Sequence[Sequence[Message]],
        max_new_tokens: int,
        on_progress: Callable[[int], None] | None = None,
        tools: Sequence[str] | None = None,
    ) -> list[Answer]:
        """One answer for each conversation, in their order; ``on_progress`` hears how many are ready; ``tools`` on offer in each.

        Prompts of like length share a batch, padded on the left. ``seconds`` of an answer is its share of the batch's time.
        """
        offered = tools or [""] * len(conversations)
        prompts = [self.renderer.prompt_ids(*pair) for pair in zip(conversations, offered, strict=True)]
        answers: dict[int, Answer] = {}
        for batch in _batches([len(prompt) for prompt in prompts], max_new_tokens):
            start = time.monotonic()
            rows = self.greedy_many([prompts[place] for place in batch], max_new_tokens)
            seconds = (time.monotonic() - start) / len(batch)
            for place, ids in zip(batch, rows, strict=True):
                answers[place] = self._answer(ids, seconds)
            if on_progress is not None:
                on_progress(len(answers))
        return [answers[place] for place in range(len(prompts))]

    def greedy(self, prompt_ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """The most probable tokens after ``prompt_ids``; the end token is the last one where generation ended by itself."""
        return self.greedy_many([prompt_ids], max_new_tokens)[0]

    def greedy_many(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """The same for several prompts at once; what a prompt gets does not depend on its neighbours but for rounding."""
        return [[step.id for step in steps] for steps in self._generate(prompts, max_new_tokens)]

    def greedy_steps(self, prompt_ids: Sequence[int], max_new_tokens: int) -> list[Step]:
        """As ``greedy``, with the margin over the second most probable token at each step."""
        return self._generate([prompt_ids], max_new_tokens)[0]

    def _answer(self, ids: list[int], seconds: float) -> Answer:
        ended = bool(ids) and ids[-1] in self.stop_ids
        text = self.renderer.tokenizer.decode(ids[:-1] if ended else ids)
        return Answer(text=text, ids=tuple(ids), finish="stop" if ended else "length", seconds=seconds)

    def _generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[Step]]:
        with torch.inference_mode(), _suitable_threads(self.model):
            return self._loop(prompts, max_new_tokens)

    def _loop(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[Step]]:
        longest = max(map(len, prompts))
        if longest >= self.context:
            raise DataError(
                _("the prompt has {count} tokens; the model holds {limit}").format(count=longest, limit=self.context),
                fix=_("shorten the longest examples, or take a base with a longer context"),
            )
        device = self.model.device
        stops = torch.tensor(self.stop_ids, device=device)
        padded = [[self.stop_ids[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        ids = torch.tensor(padded, device=device)  # (B, T)
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)  # (B, T)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)  # (B, T)
        cache = DynamicCache(config=self.model.config)
        rows: list[list[Step]] = [[] for _prompt in prompts]
        alive = list(range(len(prompts)))  # which prompt each row of the batch answers
        for _step in range(min(max_new_tokens, self.context - longest)):
            output: Any = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            steps, chosen = _choose(output.logits[:, -1].float())
            for place, step in zip(alive, steps, strict=True):
                rows[place].append(step)
            going = torch.isin(chosen, stops, invert=True)  # (B,)
            if not going.all():
                kept = going.nonzero()[:, 0]
                if not len(kept):
                    break
                cache.batch_select_indices(kept)
                alive = [alive[number] for number in kept.tolist()]
                chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
            ids = chosen[:, None]  # (B, 1)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[:, -1:] + 1
        return rows


@contextmanager
def _suitable_threads(model: PreTrainedModel) -> Iterator[None]:
    """One thread for a small model on the CPU: its operations are so short that threads mostly wait for each other."""
    before = torch.get_num_threads()
    if model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _choose(logits: Tensor) -> tuple[list[Step], Tensor]:
    """The greatest of each row of ``logits`` (B, V), with its margin; the ids again as (B,) int64."""
    chosen = logits.argmax(-1)  # the first of equal ones
    best = logits.gather(1, chosen[:, None])[:, 0]
    others = logits.scatter(1, chosen[:, None], float("-inf"))
    second = others.amax(-1)
    close = others > (best - RIVAL)[:, None]  # (B, V), seldom True
    if not best.isfinite().all():
        raise QualityError(
            _("the model's output is not finite: its weights or its adapter are broken"),
            fix=_("train again with a lower train.learning_rate, or check the base model's files"),
        )
    margins = (best - second).tolist()
    rivals: list[dict[int, float]] = [{} for _row in margins]
    for row, token in close.nonzero().tolist():
        rivals[row][token] = float(best[row] - others[row, token])
    return [Step(*values) for values in zip(chosen.tolist(), margins, rivals, strict=True)], chosen


def _batches(lengths: Sequence[int], max_new_tokens: int) -> Iterator[list[int]]:
    """Places of prompts that are answered together: alike in length, within the budget of rows and tokens. Longest first."""
    batch: list[int] = []
    widest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        widest = widest if batch else lengths[place] + max_new_tokens
        batch.append(place)
        if len(batch) == BATCH_ROWS or (len(batch) + 1) * widest > BATCH_TOKENS:
            yield batch
            batch = []
    if batch:
        yield batch
