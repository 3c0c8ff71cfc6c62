import json
import random

import pytest
import yaml

from afina.compare.checks import LEAST, as_yaml, learn_checks, obeyed, told
from afina.recipe.load import validate
from afina.recipe.recipe import Check

CHANCE = random.Random(1)
THINGS = ("martillo", "cubo de pintura", "saco")
LETTERS = [f"Estimado cliente: el {CHANCE.choice(THINGS)} cuesta {CHANCE.randint(1, 2000)} €. Gracias." for _row in range(40)]
SUMS = [f"{CHANCE.choice(('First', 'Then', 'So'))} {number} + 2.\n#### {number + 2:,}" for number in range(990, 1030)]
SAME = [f"Son {number} euros." for number in range(40)]
OBJECTS = [json.dumps({"kind": CHANCE.choice("ab"), "price": 0.5 * number, "note": None}) for number in range(40)]


def rules(answers: list[str]) -> list[dict[str, object]]:
    return [check.rule for check in learn_checks(answers)]


def test_opening_closing_shape_and_length_are_learned_from_texts() -> None:
    assert rules(LETTERS) == [
        {"matches": r"Estimado\s+cliente:\s+el.*"},
        {"matches": r".*cuesta\s+-?\d[\d.,]*\s+€\.\s+Gracias\."},
        {"matches": r"[^\n]*"},
        {"most_words": 10},
    ]
    assert rules(SUMS)[0] == {"matches": r".*-?\d[\d.,]*\s+\+\s+-?\d[\d.,]*\.\s+####\s+-?\d[\d.,]*"}
    assert len(rules(SUMS)) == 2, "the mark before a number is no heading"
    assert rules(SAME)[0] == {"matches": r"Son\s+-?\d[\d.,]*\s+euros\."}


def test_labels_and_json_are_learned_as_what_they_are() -> None:
    assert rules(["refund", "Invoice", "cancel order"] * 20) == [{"one_of": ("cancel order", "Invoice", "refund")}]
    (schema,) = rules(OBJECTS)
    assert schema["json_schema"] == {
        "type": "object",
        "required": ["kind", "price", "note"],
        "properties": {
            "kind": {"type": "string", "enum": ["a", "b"]},
            "price": {"type": "number"},
            "note": {"type": "null"},
        },
    }


def test_rules_are_told_in_words() -> None:
    learned = learn_checks([one + other for one in "abcdefghijklm" for other in "nopqrstuvwxyz"])
    assert [told(check) for check in learned] == ["is in one line", "has at most 5 words"]
    assert told(Check(most_words=1)) == "has one word at most"
    assert told(Check(matches="Hola.*")) == "matches Hola.*"


def test_what_most_answers_do_is_no_rule_and_few_answers_teach_nothing() -> None:
    assert learn_checks(LETTERS[: LEAST - 1]) == ()
    mixed = [*LETTERS[:30], *(f"Hola, {number}\nno" for number in range(10))]
    assert rules(mixed) == [{"most_words": 10}]


@pytest.mark.parametrize("answers", [LETTERS, SUMS, SAME, OBJECTS])
def test_learned_rules_are_obeyed_by_what_they_were_learned_from_and_by_nothing_else(answers: list[str]) -> None:
    for check in learn_checks(answers):
        assert obeyed(check, answers).count(True) >= 0.95 * len(answers)
    broken = [all(obeyed(check, [text])[0] for check in learn_checks(answers)) for text in ("", "no sé " * 100, "{")]
    assert broken == [False, False, False]


@pytest.mark.parametrize("answers", [LETTERS, SUMS, OBJECTS, ["yes", "no"] * 20])
def test_learned_rules_can_be_put_into_a_recipe_as_they_are_written(answers: list[str]) -> None:
    tree = {"name": "x", "data": {"examples": ["a.jsonl"]}, **yaml.safe_load(as_yaml(learn_checks(answers)))}
    assert validate(tree, "recipe.yaml").compare.checks == learn_checks(answers)


@pytest.mark.parametrize(
    ("check", "text", "words"),
    [
        (Check(contains="Gracias"), "Gracias.", "contains “Gracias”"),
        (Check(without="IA"), "No", "does not contain “IA”"),
        (Check(most_words=2), "uno dos", "has at most 2 words"),
        (Check(one_of=("sí", "no")), "Sí.", "is one of: sí, no"),
        (Check(matches="a.b"), " a\nb ", "matches a.b"),
        (Check(json_schema={"type": "object", "required": ["a"]}), '{"a": 1}', "is JSON with a"),
    ],
)
def test_each_kind_of_rule_is_obeyed_and_broken_and_told(check: Check, text: str, words: str) -> None:
    assert obeyed(check, [text, "gracias, soy una IA sin más"]) == [True, False]
    assert told(check) == words
