"""What llama.cpp makes of conversations with real tokenizers and templates, against what training makes of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers

from afina.data.render import Renderer
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export.embedded import check_case
from afina.export.gguf import write_gguf
from afina.export.ollama import check_served, served_parameters
from afina.export.proof import Checked, Question, hard_cases
from afina.infer.llama import LlamaServer
from afina.infer.ollama import Ollama
from afina.model.base import open_folder
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint

# Cases that llama.cpp reads otherwise, and cases that a template refuses, so that nobody trains on them.
# Qwen: llama.cpp has no NFC, and takes the text </s> for the token of that name in their vocabularies.
DIFFERING = {name: {"accents apart", "like a special token"} for name in ("qwen2.5", "qwen3")}
REFUSED: dict[str, set[str]] = {}


def write_base(folder: Path, tokenizer: Path) -> Path:
    """A small random Llama with a real tokenizer."""
    folder.mkdir()
    for file in tokenizer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    words = Tokenizer.load(folder).pipeline.get_vocab_size()
    config = transformers.LlamaConfig(
        vocab_size=words,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Served:
    """A model file with a real tokenizer and template, and the hard cases as training would write them."""

    gguf: Path
    bos: str | None
    cases: list[Question]


@pytest.fixture(params=["qwen2.5", "qwen3", "mistral-v3", "phi-3"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(name: str, shared_data: Path, tmp_path: Path) -> Served:
    folder = write_base(tmp_path / name, shared_data / "tokenizers" / name)
    tokenizer = Tokenizer.load(folder)
    template = choose_template("auto", tokenizer)
    base, weights, gguf = open_folder(folder, name), MergedWeights(Checkpoint(folder)), tmp_path / "m.gguf"
    write_gguf(gguf, base=base, weights=weights, tokenizer=tokenizer, template=template, kind="f16", name=name)
    return Served(gguf, tokenizer.bos_token, hard_cases(Renderer.build(template, tokenizer), 500))


def differing(checked: Sequence[Checked]) -> set[str]:
    return {check.case for check in checked if not check.same_text or not check.same_tokens}


def test_hard_cases_are_read_alike_but_for_those_that_are_known(name: str, served: Served) -> None:
    with LlamaServer(served.gguf, context=512) as server:
        checked = [check_case(server, case, served.bos) for case in served.cases]
    assert differing(checked) == DIFFERING.get(name, set()), checked
    every = {"one turn", "system", "empty system", "several turns", "system, several turns", "other scripts", "outer blanks"}
    assert every - {check.case for check in checked} == REFUSED.get(name, set())


@pytest.mark.ollama
def test_a_real_ollama_reads_the_hard_cases_as_llama_cpp_does(name: str, served: Served, real_ollama: Ollama) -> None:
    model = f"afina-test-{uuid.uuid4().hex[:8]}:v1"
    real_ollama.create(model, real_ollama.upload(served.gguf), parameters=served_parameters(512))
    try:
        checked = [check_served(real_ollama, model, case, None, served.bos) for case in served.cases]
    finally:
        real_ollama.delete(model)
    assert differing(checked) == DIFFERING.get(name, set()), checked
