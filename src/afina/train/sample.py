"""Answers to held-out questions while a model is being trained, to read along."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from afina.core.events import Events, Sample
from afina.data.conversation import Conversation
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer
from afina.infer.torch_local import TorchEngine
from afina.model.load import choose_attention

MAX_NEW_TOKENS = 48  # enough to see the form of an answer


def sampler(
    model: PreTrainedModel,
    family: str,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    conversations: Sequence[Conversation],
    events: Events,
    stage: str,
) -> Callable[[int], None]:
    """A function of the step that lets ``model`` answer the conversations' last questions, greedily, and emits each answer.

    The attention of training knows no cache of keys; while answering, the family's usual one is in its place.
    """
    engine = TorchEngine(model, tokenizer, template)

    def sample(step: int) -> None:
        training = model.config._attn_implementation
        model.set_attn_implementation(choose_attention(family))
        try:
            answers = engine.answer_many(
                [talk.prompt for talk in conversations], MAX_NEW_TOKENS, tools=[talk.tools for talk in conversations]
            )
        finally:
            model.set_attn_implementation(training)
        for talk, answer in zip(conversations, answers, strict=True):
            events.emit(Sample(stage, step, talk.prompt[-1].content, talk.answer, answer.text))

    return sample
