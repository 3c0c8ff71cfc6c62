"""The tokenizer of a GGUF, by llama.cpp's own reading of it: the same ids as in training, the same prompt, the same ends."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import pytest
from gguf import TokenType
from tokenizers import AddedToken, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Pipeline

from afina.core.errors import DataError
from afina.data.conversation import Message
from afina.data.render import Renderer
from afina.data.template import CHATML, ChatTemplate, choose_template
from afina.data.tokenizer import Tokenizer
from afina.export import vocabulary
from afina.export.gguf import write_gguf
from afina.export.vocabulary import model_name, read_vocabulary, served_template, stop_ids
from afina.infer.llama import LlamaServer
from afina.model.base import open_folder
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint
from tests.fakes.models import write_tokenizer
from tests.fakes.vocabularies import END, TEXTS, byte_level, sentencepiece_like, split_by, write_model_around

TEMPLATE = (
    "{% for m in messages %}<|end|>{{ m['role'] + ':' + m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + TEMPLATE
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def renderer_of(folder: Path) -> Renderer:
    tokenizer = Tokenizer.load(folder)
    return Renderer.build(choose_template("auto", tokenizer), tokenizer)


@contextmanager
def served(folder: Path) -> Iterator[tuple[Renderer, LlamaServer]]:
    """The model in ``folder`` exported and run by llama.cpp."""
    renderer = renderer_of(folder)
    write_gguf(
        folder / "m.gguf",
        base=open_folder(folder, "base"),
        weights=MergedWeights(Checkpoint(folder)),
        tokenizer=renderer.tokenizer,
        template=renderer.template,
        kind="f16",
        name="shop",
    )
    with LlamaServer(folder / "m.gguf", context=1024) as server:
        yield renderer, server


def other_ids(renderer: Renderer, server: LlamaServer, texts: list[str]) -> list[str]:
    return [text for text in texts if server.tokenize(text) != renderer.tokenizer.encode(text)]


def other_prompts(renderer: Renderer, server: LlamaServer, texts: list[str]) -> list[str]:
    return [text for text in texts if server.prompt_ids([Message("user", text)]) != renderer.prompt_ids([Message("user", text)])]


@pytest.mark.parametrize(
    ("name", "steps", "ignore_merges"),
    [
        ("gpt-2", [WORDS], False),
        ("smollm", [pre_tokenizers.Digits(individual_digits=True), WORDS], False),
        ("llama-bpe", split_by(vocabulary._LLAMA3), True),
        ("dbrx", split_by(vocabulary._LLAMA3), False),
        ("qwen2", split_by(vocabulary._QWEN2), False),
        ("qwen35", split_by(vocabulary._QWEN35), False),
    ],
)
def test_each_rule_that_splits_text_is_the_same_in_llama_cpp(
    name: str, steps: list[pre_tokenizers.PreTokenizer], ignore_merges: bool, tmp_path: Path
) -> None:
    folder = write_model_around(tmp_path, byte_level(steps, ignore_merges=ignore_merges), chat_template=TEMPLATE)
    with served(folder) as (renderer, server):
        assert read_vocabulary(renderer, renderer.tokenizer.vocab_size).keys["tokenizer.ggml.pre"] == name
        assert other_ids(renderer, server, [*TEXTS, "", " ", END, f"a{END} b"]) == []
        assert other_prompts(renderer, server, list(TEXTS)) == []


def test_the_texts_tell_one_rule_from_another() -> None:
    every = [
        byte_level(steps)
        for steps in ([WORDS], split_by(vocabulary._LLAMA3), split_by(vocabulary._QWEN2), split_by(vocabulary._QWEN35))
    ]
    assert len({tuple(tuple(pipeline.encode(text).ids) for text in TEXTS) for pipeline in every}) == len(every)


@pytest.mark.parametrize("prefix", ["normalizer", "always", "first", "never"])
@pytest.mark.parametrize("template", [TEMPLATE, WITH_BOS], ids=["plain", "bos"])
def test_sentencepiece_like_prompts_have_the_same_ids(prefix: str, template: str, tmp_path: Path) -> None:
    folder = write_model_around(tmp_path, sentencepiece_like(prefix), chat_template=template, bos_token="<s>")
    with served(folder) as (renderer, server):
        assert other_prompts(renderer, server, [*TEXTS, " a", "a ", "ñ\x01"]) == []
        if prefix in ("normalizer", "never"):  # with the others plain text may begin otherwise; a prompt never does
            assert other_ids(renderer, server, [*TEXTS, "", " ", "a▁b"]) == []


def test_runs_of_blanks_that_are_added_tokens_are_printed_as_blanks(tmp_path: Path) -> None:
    folder = write_model_around(tmp_path, sentencepiece_like("gemma", blank_runs=True), chat_template=WITH_BOS, bos_token="<s>")
    with served(folder) as (renderer, server):
        assert other_ids(renderer, server, [*TEXTS, "a  b", "a    b\n\nc", "▁▁"]) == []
        run = renderer.tokenizer.pipeline.token_to_id("▁▁")
        assert server.request("POST", "/detokenize", {"tokens": [run]})["content"] == "  "


def test_special_tokens_that_swallow_white_space_are_named_phi_3(tmp_path: Path) -> None:
    pipeline = sentencepiece_like("normalizer")
    pipeline.add_special_tokens([AddedToken("<|user|>", rstrip=True), AddedToken("<|endoftext|>"), AddedToken(END, rstrip=True)])
    template = (
        "{% for m in messages %}<|user|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|user|>\n{% endif %}"
    )
    folder = write_model_around(tmp_path, pipeline, chat_template=template, bos_token="<s>")
    with served(folder) as (renderer, server):
        assert model_name("shop", renderer.tokenizer) == "phi-3 shop"
        assert other_prompts(renderer, server, [*(text for text in TEXTS if text[0] != "\u00a0"), "\n a", " "]) == []


def test_a_name_with_phi_3_does_not_reach_other_tokenizers(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert model_name("my-Phi-3-bot", tokenizer) == "my-phi 3-bot"
    assert model_name("phi3", tokenizer) == "phi 3"


def made_up(count: int) -> list[str]:
    """Words, figures, signs, blanks and scripts in any order, composed (NFC), as keyboards send them."""
    dice = random.Random(7)
    pieces = [*" ".join(TEXTS).split(" "), " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "'", '"', "…", "—", "€", "€7,50"]
    pieces += [
        "<|",
        "|>",
        "[INST]",
        "{{",
        "\\",
        "http://a.b/c?d=e",
        "a@b.es",
        "0x1F",
        "3.14",
        "1e-5",
        "ﷺ",
        "🇪🇸",
        "👩‍👩‍👧",
        "\u200d",
        "\ufeff",
    ]
    pieces += [
        chr(dice.choice((0x41, 0x61, 0xE0, 0x391, 0x430, 0x5D0, 0x627, 0x905, 0xE01, 0x3042, 0x4E00, 0xAC00, 0x1F600)) + n)
        for n in range(20)
    ]
    texts = ("".join(dice.choices(pieces, k=dice.randint(1, 12))) for _number in range(count))
    return [unicodedata.normalize("NFC", text) for text in texts]


@pytest.mark.parametrize("name", ["gpt-2", "phi-3", pytest.param("qwen2.5", marks=pytest.mark.slow), "qwen3", "mistral-v3"])
def test_real_vocabularies_give_the_training_ids_on_everything_that_a_person_can_type(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    """A thousand strings: the Big List of Naughty Strings and made-up ones; the vectors that llama.cpp's own vocabulary gave."""
    source = shared_data / "tokenizers" / name
    base_template = Tokenizer.load(source).chat_template
    template = base_template or "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    folder = write_model_around(tmp_path, source, chat_template=template)
    naughty = json.loads((shared_data / "dirty-strings" / "blns.json").read_text(encoding="utf-8"))
    texts = [*naughty, *made_up(1000 - len(naughty))]
    assert len(texts) == 1000
    vectors = source / "vectors.json"
    with served(folder) as (renderer, server):
        assert other_ids(renderer, server, texts) == []
        tidy = [text for text in texts if text.strip() == text.strip(" \t\n\r\v\f")]  # llama.cpp's trim knows plain blanks only
        assert other_prompts(renderer, server, tidy[::8]) == []
        if vectors.is_file():
            pairs = json.loads(vectors.read_text(encoding="utf-8"))
            assert [pair["text"] for pair in pairs if server.tokenize(pair["text"]) != pair["ids"]] == []


def test_llama_cpp_takes_the_name_of_an_end_for_an_end_although_it_is_plain_text_to_the_base(tmp_path: Path) -> None:
    """Qwen's vocabulary has ``</s>`` as a piece of ordinary text; nothing in a GGUF can keep llama.cpp from that. Found by such
    strings; the proof of a deployment tells it (``like a special token``), and an export whose examples hold it fails.
    """
    pipeline = byte_level([WORDS])
    tree = json.loads(pipeline.to_str())
    tree["model"]["vocab"]["</s>"] = len(tree["model"]["vocab"])
    folder = write_model_around(tmp_path, Pipeline.from_str(json.dumps(tree)), chat_template=TEMPLATE)
    with served(folder) as (renderer, server):
        assert renderer.tokenizer.pipeline.token_to_id("</s>") not in renderer.tokenizer.encode("a</s>b")
        assert other_ids(renderer, server, ["a</s>b", "a<s>b", "a</ s>b"]) == ["a</s>b"]


def test_stories260k_has_the_scores_order_of_its_own_gguf(shared_data: Path, tmp_path: Path) -> None:
    """Against the GGUF that others made of the same model: equal ids on texts without special tokens."""
    folder = write_model_around(tmp_path, shared_data / "models" / "stories260K-hf", chat_template=WITH_BOS.replace(END, "</s>"))
    theirs = shared_data / "models" / "stories260K-gguf" / "stories260K-f32.gguf"
    with served(folder) as (_renderer, ours), LlamaServer(theirs, context=512) as other:
        assert [text for text in TEXTS if ours.tokenize(text) != other.tokenize(text)] == []


def with_ends(folder: Path, *texts: str) -> Renderer:
    """A tokenizer with ``texts`` as special tokens, all of which end an answer; the template closes turns with the first."""
    pipeline = byte_level([WORDS])
    pipeline.add_special_tokens([AddedToken(text) for text in texts])
    folder.mkdir(parents=True, exist_ok=True)
    pipeline.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    ids = [pipeline.token_to_id(text) for text in texts]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    tokenizer = Tokenizer.load(folder)
    return Renderer.build(ChatTemplate("test", TEMPLATE.replace(END, texts[0]), {}), tokenizer)


def test_the_ids_that_end_an_answer_each_get_a_key(tmp_path: Path) -> None:
    renderer = with_ends(tmp_path, "<turn-end>", "<stop>")
    wanted = [renderer.tokenizer.pipeline.token_to_id(text) for text in ("<|endoftext|>", "<turn-end>", "<stop>")]
    keys = read_vocabulary(renderer, renderer.tokenizer.vocab_size).keys
    assert [keys[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot", "eom")] == wanted


def test_ends_that_llama_cpp_knows_by_name_need_no_key(tmp_path: Path) -> None:
    renderer = with_ends(tmp_path, "<turn-end>", "<stop>", "<|im_end|>", "</s>")
    assert [renderer.tokenizer.token(number) for number in stop_ids(renderer)] == ["<|endoftext|>", "<turn-end>", "<stop>"]


def test_a_fourth_end_of_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    renderer = with_ends(tmp_path, "<turn-end>", "<stop>", "<halt>")
    with pytest.raises(DataError, match="4 tokens end an answer"):
        stop_ids(renderer)


def test_llama_cpp_ends_at_a_token_whose_name_it_does_not_know(tmp_path: Path) -> None:
    """Pins the bug of converters that write one end only: the answer runs on behind the end of the turn."""
    pipeline = byte_level([WORDS])
    pipeline.add_special_tokens([AddedToken("<turn-end>")])
    folder = write_model_around(tmp_path, pipeline, chat_template=TEMPLATE.replace(END, "<turn-end>"))
    end = pipeline.token_to_id("<turn-end>")
    with served(folder) as (_renderer, server):
        reply = server.request(
            "POST", "/completion", {"prompt": [5, 6], "n_predict": 3, "logit_bias": [[end, 1000.0]], "return_tokens": True}
        )
    assert reply["stop_type"] == "eos"
    assert reply["tokens"] == [end]


def test_the_bos_is_added_by_the_tokenizer_only_where_training_had_one(tmp_path: Path) -> None:
    for template, wanted in ((TEMPLATE, False), (WITH_BOS, True)):
        folder = write_model_around(
            tmp_path / str(wanted), sentencepiece_like("normalizer"), chat_template=template, bos_token="<s>"
        )
        renderer = renderer_of(folder)
        assert read_vocabulary(renderer, renderer.tokenizer.vocab_size).keys["tokenizer.ggml.add_bos_token"] is wanted


@pytest.mark.parametrize("beginning", ["", "\n", "  ", "{{ bos_token }}", "{%- if true %}x{% endif %}\n"])
def test_the_served_template_renders_what_the_training_template_renders(beginning: str, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.load(
        tmp_path
    )  # has no BOS: the template prints nothing for it, llama.cpp would print a token of its choice
    template = ChatTemplate(
        "test", beginning + CHATML + "{{ pad_token }}", {"bos_token": "", "eos_token": "<|im_end|>", "pad_token": "!"}
    )
    served_text = served_template(template, tokenizer)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # text, not HTML
    messages = [{"role": "user", "content": "Hola"}]
    text = environment.from_string(served_text).render(messages=messages, bos_token="BOS", eos_token="EOS")
    assert text == template.render([Message("user", "Hola")], add_generation_prompt=False)
    comment = served_text[: served_text.index("#}")]
    assert len(comment) >= 120
    assert not {"tool", "think"} & set(comment.replace("s ", " ").split())


def test_padding_rows_of_the_embedding_are_unused_tokens(tmp_path: Path) -> None:
    renderer = with_ends(tmp_path, "<turn-end>")
    size = renderer.tokenizer.vocab_size
    keys = read_vocabulary(renderer, size + 3).keys
    texts, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert isinstance(texts, list)
    assert isinstance(types, list)
    assert texts[size:] == [f"[PAD{number}]" for number in range(size, size + 3)]
    assert types[size:] == [TokenType.UNUSED] * 3
    with pytest.raises(DataError, match="the model's vocabulary"):
        read_vocabulary(renderer, size - 1)


def unknown_pipelines() -> dict[str, Pipeline]:
    lower = byte_level([WORDS], normalizer=normalizers.Lowercase())
    prefixed = byte_level([pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)])
    split = byte_level(split_by(r"\w+|\W+"))
    return {"Lowercase": lower, "add_prefix_space": prefixed, r"\w": split}


@pytest.mark.parametrize("found", ["Lowercase", "add_prefix_space", r"\w"])
def test_a_tokenizer_that_llama_cpp_does_not_have_is_an_error_that_names_it(found: str, tmp_path: Path) -> None:
    pipeline: Any = unknown_pipelines()[found]
    pipeline.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    tokenizer = Tokenizer.load(tmp_path)
    renderer = Renderer.build(ChatTemplate("test", TEMPLATE, {}), tokenizer)
    with pytest.raises(DataError) as error:
        read_vocabulary(renderer, tokenizer.vocab_size)
    assert found.replace("\\", "\\") in error.value.what
