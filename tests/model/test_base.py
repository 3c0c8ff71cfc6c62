"""Bases that cannot be used are told apart, each with its place, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from afina.core.errors import AfinaError, DataError, ServiceError
from afina.model.base import FAMILIES, resolve_base
from tests.fakes.models import write_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base")


def test_a_whole_folder_is_a_base(folder: Path) -> None:
    base = resolve_base(str(folder))
    assert (base.family, base.name, base.context) == ("llama", "base", 512)
    assert base.weight_bytes == (folder / "model.safetensors").stat().st_size


def test_tiny_comes_with_the_package() -> None:
    base = resolve_base("tiny")
    assert base.family in FAMILIES
    assert base.weight_bytes < 16 * 2**20


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _unknown(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))


def _half_sharded(folder: Path) -> None:
    shards = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_without("config.json"), "has no config.json"),
        (_without("tokenizer.json"), "has no tokenizer.json"),
        (_without("model.safetensors"), "has no *.safetensors"),
        (_pickled, "only as pickled files (pytorch_model.bin), which can run code"),
        (_unknown, "model_type is 'mamba'; afina trains llama, mistral"),
        (_half_sharded, "lacks 1 of 2 weight files: model-00002-of-00002.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
    ],
)
def test_a_base_that_cannot_be_used_says_why(harm: Callable[[Path], None], message: str, folder: Path) -> None:
    harm(folder)
    with pytest.raises(DataError) as caught:
        resolve_base(str(folder))
    assert message in caught.value.what
    assert str(folder) in caught.value.what
    assert caught.value.fix


def test_a_base_that_is_neither_folder_nor_hub_id_says_so() -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        resolve_base("./no/such/folder/here")


def test_a_hub_that_cannot_be_reached_is_a_service_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    with pytest.raises(AfinaError) as caught:
        resolve_base("nobody/nothing-at-all")
    assert isinstance(caught.value, ServiceError)
    assert "nobody/nothing-at-all" in caught.value.what
    assert "hf_secret" not in caught.value.what + caught.value.fix
