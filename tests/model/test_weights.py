"""Reading safetensors by ourselves: the same numbers as safetensors gives, and each broken file told by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from afina.core.errors import DataError
from afina.model.weights import Checkpoint

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


@pytest.mark.parametrize("dtype", list(TYPES))
def test_every_type_is_read_as_the_float32_that_torch_makes_of_it(dtype: str, tmp_path: Path) -> None:
    tensor = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).to(TYPES[dtype])
    special = torch.tensor([0.0, -0.0, 1e-40, 65504.0, float("inf"), float("-inf")]).to(TYPES[dtype])
    save_file({"w": tensor, "special": special, "scalar": torch.tensor(1.5).to(TYPES[dtype])}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.shape("w") == (7, 5)
    assert checkpoint.dtype("w") == dtype
    for name, wanted in (("w", tensor), ("special", special)):
        np.testing.assert_array_equal(checkpoint.read(name), wanted.float().numpy())
    assert checkpoint.read("scalar").shape == ()
    assert checkpoint.read("w").dtype == np.float32


def test_ranges_of_rows_make_up_the_whole(tmp_path: Path) -> None:
    tensor = torch.arange(60, dtype=torch.bfloat16).reshape(10, 3, 2)
    save_file({"w": tensor, "one": torch.arange(9.0)}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    parts = [checkpoint.read("w", start, start + 4) for start in (0, 4, 8)]
    assert [len(part) for part in parts] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(parts), tensor.float().numpy())
    np.testing.assert_array_equal(checkpoint.read("one", 3, 6), [3.0, 4.0, 5.0])
    assert checkpoint.read("w", 10).shape == (0, 3, 2)


def test_the_files_of_the_index_are_read_and_no_others(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(3)}, tmp_path / "model-00002-of-00002.safetensors")
    save_file({"other.names": torch.ones(4)}, tmp_path / "consolidated.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert sorted(Checkpoint(tmp_path).names()) == ["a", "b"]


def test_a_name_in_two_files_is_an_error(tmp_path: Path) -> None:
    for number in (1, 2):
        save_file({"a": torch.ones(2)}, tmp_path / f"part-{number}.safetensors")
    with pytest.raises(DataError, match="a stands both in"):
        Checkpoint(tmp_path)


def whole_file(folder: Path) -> bytes:
    save_file({"w": torch.ones(8, 8)}, folder / "model.safetensors")
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "kept", [0, 4, 8, 20, -1], ids=["empty", "half a length", "no header", "half a header", "one byte short"]
)
def test_a_cut_file_is_told_before_any_tensor_is_read(kept: int, tmp_path: Path) -> None:
    data = whole_file(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(data[:kept])
    with pytest.raises(DataError, match=r"model\.safetensors is (cut|not a safetensors file)"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"w": 3}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        b'{"w": {"dtype": "F32", "shape": [1]}}',
        b"\xff\xfe\x00\x00",
    ],
)
def test_a_header_that_makes_no_sense_is_an_error(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(DataError, match="is not a safetensors file"):
        Checkpoint(tmp_path)


def test_a_pickle_under_the_wrong_name_is_an_error(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="is not a safetensors file"):
        Checkpoint(tmp_path)


def test_a_type_that_holds_no_plain_numbers_is_named(tmp_path: Path) -> None:
    save_file({"w": torch.ones(4, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="w is stored as I8; afina reads F64, F32, F16, BF16"):
        Checkpoint(tmp_path).read("w")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \*\.safetensors"):
        Checkpoint(tmp_path)
    whole_file(tmp_path)
    with pytest.raises(DataError, match="has no tensor v"):
        Checkpoint(tmp_path).read("v")
