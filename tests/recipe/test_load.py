"""Recipes: every problem at once, with its line and what could be meant; and back to YAML unchanged."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import afina
from afina.core.errors import RecipeError
from afina.recipe.load import load_recipe, section_of, to_yaml, validate
from afina.recipe.recipe import Files, Recipe
from afina.recipe.template import commented

MINIMAL = {"name": "x", "data": {"examples": ["a.jsonl"]}}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_three_mistakes_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: Soporte!\nbase: tiny\ndata:\n  examples: [a.jsonl]\ntrain:\n  epoch: 3\n  learning_rate: fast\nlora_rank: 8\n",
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert sorted(caught.value.what.splitlines()) == [
        f"{path}:1: name is 'Soporte!'; allowed are lower-case letters, digits, . _ - (at most 63)",
        f"{path}:6: unknown key 'train.epoch'; did you mean 'epochs'?",
        f"{path}:7: train.learning_rate is 'fast'; it should be a number",
        f"{path}:8: unknown key 'lora_rank'; did you mean 'adapter.rank'?",
    ]
    assert caught.value.fix == "correct the 4 lines named above"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {examples: [a]}\n", "the key 'name' is missing"),
        ("name: x\n", "the key 'data' is missing"),
        ("name: x\ndata: {examples: []}\n", "data.examples is []"),
        ("name: x\ndata: {examples: [a], split: {val: 0.5, test: 0.5}}\n", "at most 0.80"),
        (
            "name: x\ndata: {examples: [a]}\nadapter: {quantize: int3}\n",
            "adapter.quantize is 'int3'; it should be none or int8 or nf4",
        ),
        ("name: x\ndata: {examples: [a]}\nexport: {types: [q9]}\n", "it should be f32 or f16 or bf16 or q8_0"),
        ("name: x\ndata: {examples: [a]}\ncompare: {pattern: '('}\n", "is not a regular expression"),
        ("name: x\nname: y\ndata: {examples: [a]}\n", "the key 'name' stands twice"),
        ("name: [x\n", "expected ',' or ']'"),
        ("- a\n", "holds no 'key: value' lines"),
        ("name: x\ndata: {examples: [a]}\ntrain: {max_tokens: many}\n", "train.max_tokens is 'many'"),
        ("name: x\ndata: {examples: [a]}\ntrain: {learning_rate: .nan}\n", "train.learning_rate is nan; it should be a number"),
        ("name: x\ndata: {examples: [a]}\ntrain: {learning_rate: .inf}\n", "it should be a finite number"),
        ("name: x\ndata: {examples: [a], split: {val: 2}}\n", "data.split.val is 2; it should be less than 1"),
        ("name: x\ndata: {examples: [a]}\ndeploy: {port: 99999999}\n", "it should be at most 65535"),
        ("name: x\ndata: {examples: [a]}\ntrain: {batch_tokens: 99999999999999999999}\n", "it should be at most 100000000"),
        ("name: x\ndata: {examples: []}\n", "data.examples is []; it should not be empty"),
        (
            "name: x\ndata: {examples: [a]}\ncompare: {contenders: [promt]}\n",
            "compare.contenders.0 is 'promt'; it should be prompt or prompt+",
        ),
        ("name: x\ndata: {examples: [a]}\nsystem: 2024-01-01\n", "system is 2024-01-01; it should be a text"),
        ("name: x\ndata: {examples: [a]}\n? [a, b]\n: 3\n", "a key should be a word"),
        ("name: x\ndata: {examples: [a]}\n1: 3\n", "unknown key '1'"),
        ("name: x\ndata:\n\texamples: [a]\n", "a tab stands there"),
        ("name: x\ndata: {examples: [a]}\nsystem: " + "[" * 3000, "too many brackets"),
    ],
)
def test_each_mistake_says_what_and_where(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text))
    assert message in caught.value.what
    assert "recipe.yaml" in caught.value.what
    assert caught.value.fix


def test_a_value_of_set_that_is_no_yaml_is_no_bug(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\ndata: {examples: [a]}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ("train.epochs=[", "train.seed=@3"))
    first, second = caught.value.what.splitlines()
    assert first.startswith("--set train.epochs=[: the value is not YAML")
    assert second.startswith("--set train.seed=@3: the value is not YAML")


def test_mistakes_are_told_in_the_order_of_the_lines_and_in_spanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFINA_LANG", "es")
    path = write(tmp_path, "name: x\ntrain: {seed: -1}\nadapter: {rank: 0}\ndata: {examples: [a], split: {test: 1.0}}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.what.splitlines() == [
        f"{path}:2: train.seed es -1; debería ser 0 como mínimo",
        f"{path}:3: adapter.rank es 0; debería ser 1 como mínimo",
        f"{path}:4: data.split.test es 1.0; debería ser menor que 1",
    ]


def test_a_recipe_that_is_not_there_or_not_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no recipe"):
        load_recipe(tmp_path / "none.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(RecipeError, match="is not UTF-8"):
        load_recipe(path)


def test_overrides_change_settings_and_their_mistakes_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\ndata: {examples: [a.jsonl]}\n")
    recipe = load_recipe(path, ["train.epochs=2", "train.learning_rate=2e-4", "deploy.to=embedded", "adapter.rank=8"])
    assert (recipe.train.epochs, recipe.train.learning_rate, recipe.deploy.to, recipe.adapter.rank) == (2, 2e-4, "embedded", 8)
    with pytest.raises(RecipeError, match="expected key=value"):
        load_recipe(path, ["train.epochs"])
    with pytest.raises(RecipeError, match="^--set train.epoch=2: unknown key 'train.epoch'; did you mean 'epochs'"):
        load_recipe(path, ["train.epoch=2"])
    with pytest.raises(RecipeError, match=r"^--set data.examples=7: ") as told:
        load_recipe(path, ["train.epochs=2", "data.examples=7"])
    assert told.value.fix == "correct what --set says: its value, or the name of the setting"
    with pytest.raises(RecipeError, match=r"train.optimizer is 'adamv'; it should be adamw or .*; did you mean 'adamw'\?"):
        load_recipe(path, ["train.optimizer=adamv"])
    with pytest.raises(RecipeError, match=r"compare.metrics.0 is 'simlarity'; .*; did you mean 'similarity'\?"):
        load_recipe(path, ["compare.metrics=[simlarity]"])
    with pytest.raises(RecipeError, match="name is a value, not a section"):
        load_recipe(path, ["name.x=2"])


def test_files_are_taken_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    recipe = load_recipe(write(tmp_path, "name: x\nbase: base\nchat_template: t.jinja\ndata: {examples: [a/*.jsonl]}\n"))
    assert recipe.data.examples == (str(tmp_path / "a" / "*.jsonl"),)
    assert recipe.base == str(tmp_path / "base")
    assert recipe.chat_template == str(tmp_path / "t.jinja")


def test_a_section_with_only_comments_in_it_is_the_default(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "name: x\ndata: {examples: [a]}\ntrain:\n  # epochs: 9\n"))
    assert recipe.train.epochs == Recipe.model_validate(MINIMAL).train.epochs


@given(
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    system=st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    epochs=st.floats(0.1, 100),
    rank=st.integers(1, 1024),
    targets=st.just("all-linear") | st.lists(st.sampled_from(["q_proj", "v_proj"]), min_size=1),
    max_tokens=st.just("auto") | st.integers(8, 10_000),
)
def test_recipe_to_yaml_to_recipe_is_the_identity(
    name: str, system: str | None, epochs: float, rank: int, targets: object, max_tokens: object
) -> None:
    tree = {
        **MINIMAL,
        "name": name,
        "system": system,
        "adapter": {"rank": rank, "targets": targets},
        "train": {"epochs": epochs, "max_tokens": max_tokens},
    }
    recipe = validate(tree, "test")
    assert validate(yaml.safe_load(to_yaml(recipe)), "test") == recipe


def test_the_recipe_that_new_writes_is_a_recipe_with_every_key_in_it(tmp_path: Path) -> None:
    text = commented("soporte", "tiny", ["a.jsonl", "b c.csv"])
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.data.examples == (str(tmp_path / "a.jsonl"), str(tmp_path / "b c.csv"))
    for key in keys_of(Recipe):
        assert f"{key.rsplit('.', 1)[-1]}:" in text
    # each commented line is true: taking its mark away changes nothing
    opened = "\n".join(
        line.replace("# ", "", 1) if line.lstrip().startswith("# ") and ": " in line else line for line in text.split("\n")[1:]
    )
    assert load_recipe(write(tmp_path, opened)) == recipe


def keys_of(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for key, field in section.model_fields.items():
        below = section_of(field.annotation)
        keys += keys_of(below, f"{prefix}{key}.") if below and field.default is not None else [f"{prefix}{key}"]
    return keys


def test_there_are_not_many_keys() -> None:
    """Eighty-four: who adds one looks for one to take away."""
    assert len(keys_of(Recipe)) <= 84


def test_every_key_is_read_by_code() -> None:
    """A setting that nothing reads is a lie; each name is looked up as an attribute somewhere outside the recipe's room."""
    source = Path(afina.__file__).parent
    read = {
        node.attr
        for path in source.rglob("*.py")
        if "recipe" not in path.relative_to(source).parts[:1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert [key for key in keys_of(Recipe) if key.rsplit(".", 1)[-1] not in read] == []


def test_off_is_a_word_in_the_checks_although_yaml_reads_it_as_false(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata: {examples: [a.jsonl], checks: {refusal: off, email: fix}}\n")
    assert load_recipe(path).data.checks == {"refusal": "off", "email": "fix"}
    assert load_recipe(path, ["data.checks.phone=off"]).data.checks["phone"] == "off"


def test_words_of_files_are_checked_like_all_others(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata:\n  examples:\n    - {file: a.jsonl}\n    - {files: b.txt, persona: Ana}\n    - 3\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.what.split("\n") == [
        f"{path}:4: the key 'data.examples.0.files' is missing",
        f"{path}:4: unknown key 'data.examples.0.file'; did you mean 'files'?",
        f"{path}:5: unknown key 'data.examples.1.persona'; did you mean 'person'?",
        f"{path}:6: data.examples.2 is 3; it should be a text or {{files: …, map: …, person: …, encoding: …}}",
    ]


def test_files_with_words_of_their_own_are_taken_from_the_recipes_folder(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata: {examples: [{files: chat.txt, person: Ana}], test: [t.csv], documents: [docs]}\n")
    data = load_recipe(path).data
    assert data.examples == (Files(files=str(tmp_path / "chat.txt"), person="Ana"),)
    assert (data.test, data.documents) == ((str(tmp_path / "t.csv"),), (str(tmp_path / "docs"),))


def test_a_model_elsewhere_may_be_written_as_its_name_and_address() -> None:
    models = ["big", "small@http://127.0.0.1:9/v1", "user@team/model"]
    found = validate(
        {"name": "x", "data": {"examples": ["x.jsonl"]}, "compare": {"models": models}}, "recipe.yaml"
    ).compare.models
    assert [(model.name, model.at) for model in found] == [
        ("big", "ollama"),
        ("small", "http://127.0.0.1:9/v1"),
        ("user@team/model", "ollama"),
    ]
