"""Answers from a transformers model in this process: greedy, with a cache, one by one or many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from afina.core.errors import DataError, QualityError
from afina.core.translation import _
from afina.data.conversation import Message
from afina.data.render import Renderer
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer
from afina.infer.answer import BATCH_ROWS, Answer
from afina.model.load import torch_threads

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
        on_answers: Callable[[Mapping[int, Answer]], None] | None = None,
        tools: Sequence[str] | None = None,
    ) -> list[Answer]:
        """One answer for each conversation, in their order; ``tools`` on offer in each. ``on_answers`` hears of those of a batch,
        by their place, as soon as they are there.

        Prompts of like length share a batch. ``seconds`` of an answer is its share of the batch's time. A small model answers as
        many batches side by side as there are threads.
        """
        offered = tools or [""] * len(conversations)
        prompts = [self.renderer.prompt_ids(*pair) for pair in zip(conversations, offered, strict=True)]

        def work(batch: Sequence[int]) -> dict[int, Answer]:
            start = time.monotonic()
            rows = self.greedy_many([prompts[place] for place in batch], max_new_tokens)
            seconds = (time.monotonic() - start) / len(batch)
            return {place: self._answer(ids, seconds) for place, ids in zip(batch, rows, strict=True)}

        answers: dict[int, Answer] = {}
        sides = torch.get_num_threads() if _is_small(self.model) else 1
        with _suitable_threads(self.model):
            for found in _side_by_side(work, list(_batches([len(prompt) for prompt in prompts], max_new_tokens, sides)), sides):
                answers |= found
                if on_answers is not None:
                    on_answers(found)
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
        count = min(max_new_tokens, self.context - longest)
        cache = _room_for(self.model, count + 1)
        mask = self._read(prompts, longest - 1, cache)  # (B, T - 1)
        ids = torch.tensor([prompt[-1:] for prompt in prompts], device=device)  # (B, 1)
        positions = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=device)  # (B, 1)
        rows: list[list[Step]] = [[] for _prompt in prompts]
        alive = list(range(len(prompts)))  # which prompt each row of the batch answers
        for _step in range(count):
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            output: Any = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
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
            ids, positions = chosen[:, None], positions + 1
        return rows

    def _read(self, prompts: Sequence[Sequence[int]], length: int, cache: DynamicCache) -> Tensor:
        """Puts all but the last token of each prompt into ``cache``; returns the mask (B, length) of what is no padding.

        Padded on the right, causal attention needs no mask and skips half of the work. A sliding window, which keeps the last
        tokens only, is padded on the left.
        """
        device = self.model.device
        is_left = not all(isinstance(layer, _Room) for layer in cache.layers)
        fills = [[self.stop_ids[0]] * (length + 1 - len(prompt)) for prompt in prompts]
        read = [fill + list(prompt[:-1]) if is_left else list(prompt[:-1]) + fill for prompt, fill in zip(prompts, fills)]
        places = torch.arange(length, device=device)
        lengths = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=device)
        mask = (places >= length - lengths if is_left else places < lengths).long()  # (B, length)
        if length:
            given = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if is_left else {}
            ids = torch.tensor(read, device=device)
            self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **given)
        return mask


class _Room(DynamicLayer):
    """A layer of the cache with room for ``more`` tokens behind the first ones: a token is written, and not all copied."""

    def __init__(self, more: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._more = more
        self._rooms: tuple[Tensor, Tensor]

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rooms = self._room_like(key_states), self._room_like(value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[2]
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, start:stop] = new
        return self._show(stop)

    def batch_select_indices(self, indices: Tensor) -> None:
        keys, values = self._rooms
        self._rooms = keys[indices], values[indices]
        self._show(self.get_seq_length())

    def _room_like(self, first: Tensor) -> Tensor:
        batch, heads, tokens, width = first.shape
        return first.new_empty(batch, heads, tokens + self._more, width)

    def _show(self, tokens: int) -> tuple[Tensor, Tensor]:
        keys, values = (room[:, :, :tokens] for room in self._rooms)
        self.keys, self.values = keys, values
        return keys, values


def _room_for(model: PreTrainedModel, more: int) -> DynamicCache:
    """An empty cache; its layers without a window have room for ``more`` tokens behind those of the first call."""
    cache = DynamicCache(config=model.config)
    cache.layers = [_Room(more) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _side_by_side(
    work: Callable[[Sequence[int]], dict[int, Answer]], batches: Sequence[Sequence[int]], sides: int
) -> Iterator[dict[int, Answer]]:
    """``work`` of each batch, in their order, so many at a time. Where it ends early, those under way are waited for: a thread
    that is in torch when Python ends would take it down.
    """
    if sides == 1 or len(batches) == 1:
        yield from map(work, batches)
        return
    with ThreadPoolExecutor(sides, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(work, batches)


def _is_small(model: PreTrainedModel) -> bool:
    return model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL


def _suitable_threads(model: PreTrainedModel) -> AbstractContextManager[None]:
    """One thread for a small model on the CPU: its operations are so short that threads mostly wait for each other."""
    return torch_threads(1 if _is_small(model) else torch.get_num_threads())


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


def _batches(lengths: Sequence[int], max_new_tokens: int, sides: int = 1) -> Iterator[list[int]]:
    """Places of prompts that are answered together: alike in length, within the budget of rows and tokens, at least a batch for
    each of ``sides``. Longest first.
    """
    most = min(BATCH_ROWS, -(-len(lengths) // sides))
    batch: list[int] = []
    widest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        widest = widest if batch else lengths[place] + max_new_tokens
        batch.append(place)
        if len(batch) == most or (len(batch) + 1) * widest > BATCH_TOKENS:
            yield batch
            batch = []
    if batch:
        yield batch
