"""Encoding word by word gives the ids of encoding the whole, on every tokenizer at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data.encode import Encoder
from afina.data.tokenizer import Tokenizer
from afina.model.base import TINY
from tests.fakes.models import write_tokenizer

REAL = ("qwen2.5", "qwen3", "gpt-2", "mistral-v3", "phi-3")
ODD = st.text(alphabet=st.sampled_from([*" \n\t\r\0 \u00a0\u2003\u200baábB1'.,-{}Ġ🎉\u0301日"]), max_size=40)


@pytest.fixture(scope="module", params=["tiny", "byte", *REAL])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param == "tiny":
        return Tokenizer.load(TINY)
    if request.param == "byte":
        folder = tmp_path_factory.mktemp("byte")
        write_tokenizer(folder)
        return Tokenizer.load(folder)
    shared: Path = request.getfixturevalue("shared_data")
    return Tokenizer.load(shared / "tokenizers" / request.param)


def of_one(encoder: Encoder, texts: list[str]) -> list[list[int]]:
    return [list(encoded.ids) for encoded in encoder.encode(texts)]


@settings(max_examples=60)
@given(texts=st.lists(ODD | st.text(max_size=30), min_size=1, max_size=6))
def test_any_texts_get_the_ids_of_the_tokenizer(tokenizer: Tokenizer, texts: list[str]) -> None:
    whole = [text.encode("utf-8", "ignore").decode() for text in texts]
    encoder = Encoder(tokenizer)
    remembers = encoder.remembers
    assert of_one(encoder, whole) == [tokenizer.encode(text) for text in whole]
    assert of_one(encoder, whole[::-1]) == [tokenizer.encode(text) for text in whole[::-1]]
    assert encoder.remembers == remembers  # the proof never had to step in


def test_real_texts_get_the_ids_of_the_tokenizer(tokenizer: Tokenizer, shared_data: Path) -> None:
    strings = json.loads((shared_data / "dirty-strings" / "blns.json").read_text(encoding="utf-8"))
    rows = (shared_data / "ds-gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    special = list(tokenizer.special)[:3]
    texts = [*strings, *rows, *(f"a {token} b{token}{token}\n c" for token in special)]
    encoder = Encoder(tokenizer)
    remembers = encoder.remembers
    assert of_one(encoder, texts) == [tokenizer.encode(text) for text in texts]
    assert encoder.remembers == remembers


def test_byte_level_tokenizers_are_remembered_and_others_are_not(shared_data: Path) -> None:
    remembered = {name: Encoder(Tokenizer.load(shared_data / "tokenizers" / name)).remembers for name in REAL}
    assert remembered == {"qwen2.5": True, "qwen3": True, "gpt-2": True, "mistral-v3": False, "phi-3": False}


def test_at_the_first_difference_remembering_ends(tmp_path: Path) -> None:
    """A tokenizer that joins words slips past the rules only if its file lies; then the proof finds it."""
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    encoder = Encoder(tokenizer)
    assert encoder.remembers
    encoder._known["one"] = b"\x05\x00\x00\x00"
    assert of_one(encoder, ["one two"]) == [tokenizer.encode("one two")]
    assert not encoder.remembers


def test_what_does_not_come_back_is_marked(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace('"ð":', '"gone":', 1))  # the first byte of an emoji
    encoder = Encoder(Tokenizer.load(tmp_path))
    texts = ["a b", "a 🎉 b", "é", "b 🎉\n", "b\n"]
    assert [encoded.exact for encoded in encoder.encode(texts)] == [True, False, True, False, True]
