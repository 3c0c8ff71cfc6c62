"""What llama.cpp makes of conversations with real tokenizers and templates, against what training makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from afina.data.render import Renderer
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export.embedded import check_case
from afina.export.gguf import write_gguf
from afina.export.proof import hard_cases
from afina.infer.llama import LlamaServer
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


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "mistral-v3", "phi-3"])
def test_hard_cases_are_read_alike_but_for_those_that_are_known(name: str, shared_data: Path, tmp_path: Path) -> None:
    folder = write_base(tmp_path / name, shared_data / "tokenizers" / name)
    tokenizer = Tokenizer.load(folder)
    template = choose_template("auto", tokenizer)
    base, weights = open_folder(folder, name), MergedWeights(Checkpoint(folder))
    write_gguf(tmp_path / "m.gguf", base=base, weights=weights, tokenizer=tokenizer, template=template, kind="f16", name=name)
    cases = hard_cases(Renderer.build(template, tokenizer), 500)
    with LlamaServer(tmp_path / "m.gguf", context=512) as server:
        checked = [check_case(server, case, tokenizer.bos_token) for case in cases]
    differing = {check.case for check in checked if not check.same_text or not check.same_tokens}
    assert differing == DIFFERING.get(name, set()), checked
    every = {"one turn", "system", "empty system", "several turns", "system, several turns", "other scripts", "outer blanks"}
    assert every - {check.case for check in checked} == REFUSED.get(name, set())
