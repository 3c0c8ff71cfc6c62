"""All kinds of dialogue, with their shares of the sum of all shares; 0 where a course has to ask for it."""

from collections.abc import Callable

from tools.tiny import dialogues as d
from tools.tiny.dialogues import Dialogue
from tools.tiny.grammar import World
from tools.tiny.patterns import few_shot, long_pattern
from tools.tiny.reading import copied, drill, entries, found_passages, reading, value_only

KINDS: dict[str, tuple[Callable[[World], Dialogue], int]] = {
    "reading": (reading, 34),
    "drill": (drill, 0),
    "passages": (found_passages, 20),
    "value": (value_only, 6),
    "entries": (entries, 6),
    "copied": (copied, 6),
    "few_shot": (few_shot, 16),
    "long_pattern": (long_pattern, 0),
    "facts": (d.facts_in_prompt, 3),
    "order": (d.order, 4),
    "language": (d.in_language, 4),
    "upper": (d.in_upper_case, 4),
    "one_word": (d.in_one_word, 4),
    "list": (d.as_list, 4),
    "prefix": (d.opened_or_closed, 4),
    "repeat": (d.repeated, 2),
    "mood": (d.mood, 2),
    "topic": (d.topic, 2),
    "greeting": (d.greeting, 2),
    "farewell": (d.farewell, 1),
    "who": (d.who_are_you, 1),
    "name": (d.remembered_name, 2),
    "describe": (d.joke_or_fact, 1),
    "what": (d.what_is, 4),
    "examples": (d.which_group, 1),
    "opposite": (d.opposite, 1),
    "capital": (d.capital_city, 1),
    "calendar": (d.calendar, 1),
    "translate": (d.translation, 2),
    "sell": (d.do_you_sell, 2),
    "advice": (d.advice, 3),
    "fault": (d.fault, 3),
    "story": (d.story, 1),
    "arithmetic": (d.sum_of_two, 1),
    "count": (d.how_many, 1),
    "larger": (d.larger, 1),
}
FOLLOWING = ("farewell", "greeting", "what", "opposite", "capital", "who")  # may come after any dialogue of one turn
