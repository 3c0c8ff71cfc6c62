"""Each family through the whole export: a random base with a PEFT adapter beside it in torch, and merged, as GGUF, in llama.cpp.

The greedy tokens must be the same, and the logarithms of the next token's probabilities close: with F32 weights llama.cpp differs
from torch by rounding alone, but for the table of the GELU function (half precision) that it uses in the Gemma family.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from afina.core.errors import DataError
from afina.data.conversation import Message
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export.families import FAMILIES, lay_out
from afina.export.gguf import write_gguf
from afina.export.ollama import served_parameters
from afina.export.tensor import interleave_halves
from afina.infer.llama import LlamaServer
from afina.infer.ollama import Ollama
from afina.infer.torch_local import TorchEngine
from afina.model.base import FAMILIES as TRAINED_FAMILIES
from afina.model.base import Base, open_folder
from afina.model.load import load_model
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.models import write_model

# Longer than the sliding windows of 64 tokens, and than the short context of LongRoPE.
QUESTION = "Hola, ¿qué cuesta hoy el martillo rojo? Hello, what does the red hammer cost today? The answer is here. 12345 & more."
TOKENS = 40
CLOSE_IN_HALVES = 1e-2
CLOSE, CLOSE_GELU = 1e-4, 1e-2  # largest difference of a logarithm of a probability; measured: 2e-5, 4e-3

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.3, 1.7, 2.0, 2.5, 3.0, 4.0],
    "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 30.0, 40.0],
}
GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 50000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 3000.0},
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", {}, {}),
    "llama 3 positions, untied, biases": (
        "llama",
        {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
        {"use_rslora": True},
    ),
    "llama, linear positions": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}, {}),
    "llama, wide heads": ("llama", {"head_dim": 32, "num_key_value_heads": 1}, {}),
    "mistral": ("mistral", {}, {"alpha_pattern": {"q_proj": 2}, "rank_pattern": {"v_proj": 7}}),
    "qwen2": ("qwen2", {}, {}),
    "qwen2, yarn": ("qwen2", {"rope_parameters": YARN}, {}),
    "qwen2, yarn with a factor of its own": (
        "qwen2",
        {"rope_parameters": {**YARN, "attention_factor": 0.7, "beta_fast": 16}},
        {},
    ),
    "qwen3": ("qwen3", {}, {}),
    "qwen3, tied, wide heads": ("qwen3", {"tie_word_embeddings": True, "head_dim": 32}, {}),
    "gemma": ("gemma", {}, {}),
    "gemma 2": ("gemma2", {}, {}),
    "gemma 3": ("gemma3_text", {"num_hidden_layers": 6}, {}),
    "gemma 3, two to one, stretched": (
        "gemma3_text",
        {
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": GEMMA3_ROPE,
        },
        {},
    ),
    "phi 3": ("phi3", {}, {}),
    "phi 3, long": (
        "phi3",
        {"rope_parameters": LONGROPE, "max_position_embeddings": 512, "original_max_position_embeddings": 64},
        {},
    ),
    "phi 4 mini's positions": (
        "phi3",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {},
    ),
}


def export_model(folder: Path, base: Base, adapter: Path | None, kind: Any = "f32") -> Path:
    tokenizer = Tokenizer.load(base.folder)
    path = folder / f"{kind}.gguf"
    weights = MergedWeights(Checkpoint(base.folder), adapter)
    template = choose_template("auto", tokenizer)
    write_gguf(path, base=base, weights=weights, tokenizer=tokenizer, template=template, kind=kind, name="shop")
    return path


def engine_of(base: Base, adapter: Path | None) -> TorchEngine:
    tokenizer = Tokenizer.load(base.folder)
    model = load_model(base, dtype=torch.float32, device=torch.device("cpu"), adapter=adapter, attention="eager")
    return TorchEngine(model, tokenizer, choose_template("auto", tokenizer))


def log_probabilities(server: LlamaServer, prompt_ids: list[int], vocabulary: int) -> np.ndarray:
    """llama.cpp's for the token behind the prompt, (V,). Forcing one printable token keeps the list from being held back."""
    body = {"prompt": prompt_ids, "n_predict": 1, "n_probs": vocabulary, "temperature": 0, "logit_bias": [[70, 1000.0]]}
    reply = server.request("POST", "/completion", body)
    found = np.full(vocabulary, np.nan, np.float32)
    for entry in reply["completion_probabilities"][0]["top_logprobs"]:
        found[entry["id"]] = entry["logprob"]
    return found


def test_every_family_that_is_trained_is_exported() -> None:
    assert set(FAMILIES) == set(TRAINED_FAMILIES)


@pytest.mark.parametrize("case", list(CASES))
def test_the_gguf_gives_the_tokens_and_probabilities_of_torch(case: str, tmp_path: Path) -> None:
    family, changes, lora = CASES[case]
    base = open_folder(write_model(tmp_path / "base", family, **changes), "base")
    write_peft_adapter(tmp_path / "adapter", base.folder, **lora)
    engine = engine_of(base, tmp_path / "adapter")
    prompt_ids = engine.renderer.prompt_ids([Message("user", QUESTION)])
    assert len(prompt_ids) > 64
    wanted = engine.greedy(prompt_ids, TOKENS)
    with torch.inference_mode():
        logits = engine.model(torch.tensor([prompt_ids])).logits[0, -1].float()
    path = export_model(tmp_path, base, tmp_path / "adapter")
    with LlamaServer(path, context=256, exact=True) as server:
        assert server.prompt_ids([Message("user", QUESTION)]) == prompt_ids
        got = log_probabilities(server, prompt_ids, logits.shape[0])
        difference = np.abs(got - logits.log_softmax(-1).numpy())
        assert float(difference.max()) < (CLOSE_GELU if "gemma" in family else CLOSE)
        assert server.greedy(prompt_ids, TOKENS) == wanted


@pytest.mark.ollama
@pytest.mark.parametrize("case", list(CASES))
def test_a_real_ollama_gives_the_text_tokens_and_probabilities_of_torch(case: str, tmp_path: Path, real_ollama: Ollama) -> None:
    """Its cache is in half precision, whatever the file's type. What a random model says is no text, so nothing is generated."""
    family, changes, lora = CASES[case]
    base = open_folder(write_model(tmp_path / "base", family, **changes), "base")
    write_peft_adapter(tmp_path / "adapter", base.folder, **lora)
    engine = engine_of(base, tmp_path / "adapter")
    question, tokenizer = [Message("user", QUESTION)], engine.renderer.tokenizer
    prompt_ids = engine.renderer.prompt_ids(question)
    with torch.inference_mode():
        wanted = engine.model(torch.tensor([prompt_ids])).logits[0].float().log_softmax(-1)
    text = engine.renderer.template.render(question, "", add_generation_prompt=True)
    bos = tokenizer.bos_token or ""
    path = export_model(tmp_path, base, tmp_path / "adapter")
    name = f"afina-test-{uuid.uuid4().hex[:8]}:v1"
    real_ollama.create(name, real_ollama.upload(path), parameters=served_parameters(256))
    compared = []
    try:
        assert real_ollama.rendered(name, question) in (text, text.removeprefix(bos))
        with LlamaServer(path, context=256) as server:
            for place in range(len(prompt_ids), 64, -1):
                before = tokenizer.text(prompt_ids[:place])
                told = real_ollama.next_words(name, before.removeprefix(bos) if tokenizer.adds_bos else before)
                assert told.read in (0, place)
                ids = {one.text: one.token for one in server.likeliest(prompt_ids[:place], 20)}
                compared += [abs(told.first[one] - float(wanted[place - 1, ids[one]])) for one in told.first if one in ids]
    finally:
        real_ollama.delete(name)
    assert len(compared) > 20
    assert max(compared) < CLOSE_IN_HALVES


def test_stories260k_tells_in_llama_cpp_what_it_tells_in_torch(shared_data: Path, tmp_path: Path) -> None:
    base = open_folder(shared_data / "models" / "stories260K-hf", "stories260K")
    engine = engine_of(base, None)
    prompt_ids = [1, *engine.renderer.tokenizer.encode("Once upon a time")]
    wanted = engine.greedy(prompt_ids, 150)
    for kind in ("f32", "f16"):
        with LlamaServer(export_model(tmp_path, base, None, kind), context=512, exact=True) as server:
            assert server.greedy(prompt_ids, 150) == wanted
    assert engine.renderer.tokenizer.decode(wanted).startswith(", there was a little girl named Lily.")


def layout_of(folder: Path, family: str, **changes: Any) -> tuple[Base, Any]:
    base = open_folder(write_model(folder, family, **changes), "base")
    return base, lay_out(base, MergedWeights(Checkpoint(folder)))


@pytest.mark.parametrize(
    ("family", "changes", "older"),
    [
        ("llama", {"rope_parameters": LLAMA3_ROPE}, lambda rope: {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}),
        (
            "qwen2",
            {"rope_parameters": YARN},
            lambda rope: {"rope_theta": rope.pop("rope_theta"), "rope_scaling": {"type": rope.pop("rope_type"), **rope}},
        ),
        (
            "gemma3_text",
            {"rope_parameters": GEMMA3_ROPE},
            lambda rope: {
                "rope_theta": rope["full_attention"].pop("rope_theta"),
                "rope_local_base_freq": rope["sliding_attention"]["rope_theta"],
                "rope_scaling": rope["full_attention"],
                "sliding_window_pattern": 6,
            },
        ),
    ],
)
def test_the_older_spelling_of_a_configuration_gives_the_same_layout(
    family: str, changes: Any, older: Any, tmp_path: Path
) -> None:
    base, layout = layout_of(tmp_path, family, **changes)
    config = dict(base.config)
    config |= older(json.loads(json.dumps(config.pop("rope_parameters"))))
    config.pop("layer_types", None)
    again = lay_out(replace(base, config=config), MergedWeights(Checkpoint(tmp_path)))
    assert again.keys == layout.keys
    assert again.tensors == layout.tensors
    assert set(again.computed) == set(layout.computed)


def test_keys_and_tensors_stand_where_llama_quantize_puts_them(tmp_path: Path) -> None:
    """Ollama sends each file through llama-quantize: a file in this order comes out with the same digest."""
    base = open_folder(write_model(tmp_path / "base", num_hidden_layers=11, tie_word_embeddings=False), "base")
    reader = gguf.GGUFReader(export_model(tmp_path, base, None, "f16"))
    names = [tensor.name for tensor in reader.tensors]
    assert names[:3] == ["output.weight", "output_norm.weight", "token_embd.weight"]
    layers = [int(name.split(".")[1]) for name in names[3:]]
    assert layers == sorted(layers)
    assert names[3:12] == sorted(names[3:12])
    keys = [key for key in reader.fields if not key.startswith("GGUF.")]
    assert keys[0] == "general.architecture"
    assert keys[-2:] == ["general.quantization_version", "general.file_type"]


def test_rotary_pairs_come_to_lie_side_by_side() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert interleave_halves(rows, 8)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert interleave_halves(rows, 4)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize(
    ("family", "setting", "value"),
    [
        ("llama", "hidden_act", "gelu"),
        ("llama", "rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
        ("gemma2", "query_pre_attn_scalar", 100),
        ("gemma2", "attn_logit_softcapping", None),
        ("gemma3_text", "attn_logit_softcapping", 30.0),
        ("qwen2", "rope_parameters", {**YARN, "truncate": False}),
        ("gemma", "use_bidirectional_attention", True),
        ("gemma3_text", "layer_types", ["full_attention", "sliding_attention"]),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_an_error_that_names_it(
    family: str, setting: str, value: Any, tmp_path: Path
) -> None:
    base = open_folder(write_model(tmp_path, family), "base")
    weights = MergedWeights(Checkpoint(tmp_path))
    lay_out(base, weights)
    wrong = replace(base, config={**base.config, setting: value})
    named = "rope" if setting == "rope_parameters" else setting
    with pytest.raises(DataError, match=rf"llama\.cpp cannot compute a {family} model with .*{named}"):
        lay_out(wrong, weights)


def test_another_family_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    base = open_folder(write_model(tmp_path), "base")
    with pytest.raises(DataError, match="'mamba' cannot be exported; afina exports llama, mistral, qwen2"):
        lay_out(replace(base, family="mamba"), MergedWeights(Checkpoint(tmp_path)))


def test_a_tensor_that_llama_cpp_has_no_place_for_is_an_error(tmp_path: Path) -> None:
    base = open_folder(write_model(tmp_path, "qwen3", num_hidden_layers=3), "base")
    shallow = replace(base, config={**base.config, "num_hidden_layers": 2, "layer_types": None})
    with pytest.raises(DataError, match=r"has no place for the tensor model\.layers\.2"):
        lay_out(shallow, MergedWeights(Checkpoint(tmp_path)))


def test_a_window_that_llama_cpp_does_not_know_is_told(tmp_path: Path) -> None:
    _base, layout = layout_of(tmp_path, "mistral", sliding_window=128)
    assert layout.notes == (
        "beyond 128 tokens llama.cpp computes otherwise than the model was made: it knows no sliding window here",
    )
    _base, layout = layout_of(tmp_path / "qwen2", "qwen2")
    assert layout.notes == ()
