"""Our files against those of llama.cpp's own converter: the same tensors bit for bit, the same keys but for a list of reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export.gguf import write_gguf
from afina.model.base import open_folder
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint
from afina.recipe.kinds import Kind
from tests.fakes.llama_convert import llama_convert
from tests.fakes.models import FAMILIES, write_model

KINDS: tuple[Kind, ...] = ("f32", "f16", "bf16", "q8_0")

# Keys that differ, and why ours may.
OURS_ALONE = {
    "general.quantization_version",  # Ollama's copy of a file adds it, and would make another file
    "tokenizer.ggml.add_bos_token",  # written although it is llama.cpp's default, which depends on the family
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.eot_token_id",  # else llama.cpp guesses one by its text
    "tokenizer.ggml.padding_token_id",
    "attention.key_length",  # written although it is width / heads
    "attention.value_length",
    "rope.dimension_count",
    "rope.freq_base",  # Gemma's is llama.cpp's default
    "vocab_size",
}
THEIRS_ALONE = {
    "general.size_label",  # for people: "7B"; ours is told by the name
    "general.basename",
    "general.finetune",
    "general.version",
    "general.license",
    "general.sampling.temp",  # from generation_config.json; a request's own, or Ollama's parameters, decide here
    "general.sampling.top_k",
    "general.sampling.top_p",
    "tokenizer.ggml.token_type_count",
    "attention.sliding_window",  # of families in which llama.cpp ignores it
    "rope.scaling.original_context_length",  # of Phi-3 without stretched positions: it changes nothing then
}
OTHER_VALUE = {
    "general.name",  # the run's, not the folder's
    "tokenizer.chat_template",  # the same behind a comment, so that Ollama does not replace it
}


def written(folder: Path, path: Path, kind: Kind) -> gguf.GGUFReader:
    tokenizer = Tokenizer.load(folder)
    base = open_folder(folder, "base")
    template = choose_template("auto", tokenizer)
    weights = MergedWeights(Checkpoint(folder))
    write_gguf(path, base=base, weights=weights, tokenizer=tokenizer, template=template, kind=kind, name="shop")
    return gguf.GGUFReader(path)


def keys(reader: gguf.GGUFReader) -> dict[str, Any]:
    """Without the family's name in front."""
    arch = reader.fields["general.architecture"].contents()
    return {key.removeprefix(f"{arch}."): field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each family, and beside it, in ``theirs``, what llama.cpp's converter makes of it."""
    folders = {family: write_model(tmp_path_factory.mktemp(family) / "base", family) for family in FAMILIES}
    for folder in folders.values():
        (folder.parent / "theirs").mkdir()
    llama_convert({folder: folder.parent / "theirs" for folder in folders.values()}, KINDS)
    return folders


@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_are_llama_cpps_bit_for_bit_and_keys_but_for_a_list(family: str, models: dict[str, Path], tmp_path: Path) -> None:
    folder = models[family]
    for kind in KINDS:
        theirs = gguf.GGUFReader(folder.parent / "theirs" / f"{kind}.gguf")
        ours = written(folder, tmp_path / "ours.gguf", kind)
        mine = {tensor.name: tensor for tensor in ours.tensors}
        assert mine.keys() == {tensor.name for tensor in theirs.tensors}
        for tensor in theirs.tensors:
            assert mine[tensor.name].tensor_type == tensor.tensor_type, tensor.name
            assert np.array_equal(mine[tensor.name].data, tensor.data), tensor.name
        our_keys, their_keys = keys(ours), keys(theirs)
        assert our_keys.keys() - their_keys.keys() <= OURS_ALONE
        assert their_keys.keys() - our_keys.keys() <= THEIRS_ALONE
        differing = {key for key in our_keys.keys() & their_keys.keys() if not _same(our_keys[key], their_keys[key])}
        assert differing <= OTHER_VALUE


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float):
        return bool(np.float32(ours) == np.float32(theirs))
    return bool(ours == theirs)
