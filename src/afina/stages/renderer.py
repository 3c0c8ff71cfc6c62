"""The recipe's chat template on the base's tokenizer: what turns conversations into the tokens that are trained and served."""

from __future__ import annotations

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.render import Renderer
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.model.base import Base
from afina.model.head import twins
from afina.recipe.recipe import Recipe


def build_renderer(recipe: Recipe, base: Base) -> Renderer:
    """The recipe's template on the base's tokenizer; every problem between the two is an error here, before any work."""
    tokenizer = Tokenizer.load(base.folder)
    vocabulary = int(base.config["vocab_size"])
    if without := [token for token, number in tokenizer.added.items() if number >= vocabulary]:
        raise DataError(
            _("{folder}: {count} added tokens have no row in the embedding, which has {size}: {tokens}").format(
                folder=base.folder, count=len(without), size=vocabulary, tokens=" ".join(without[:3])
            ),
            fix=_("take the tokenizer that belongs to these weights, or enlarge the embedding and train the new rows first"),
        )
    if tokenizer.vocab_size > vocabulary:
        raise DataError(
            _("{folder}: the tokenizer has {tokens} tokens, the model's vocabulary {size}").format(
                folder=base.folder, tokens=tokenizer.vocab_size, size=vocabulary
            ),
            fix=_("take tokenizer and weights of the same model"),
        )
    renderer = Renderer.build(choose_template(recipe.chat_template, tokenizer), tokenizer)
    unlearned_end = renderer.template.name == "plain" and twins(base, renderer.end_of_turn_id)
    if unlearned_end and tokenizer.bos_id is not None and not twins(base, tokenizer.bos_id):
        return Renderer.build(choose_template(recipe.chat_template, tokenizer, ends_with_bos=True), tokenizer)
    return renderer
