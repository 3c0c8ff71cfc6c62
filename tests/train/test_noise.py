"""NEFTune: as large as its formula says, on the training's own rows, and nowhere else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from afina.data.pack import pack
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.train.noise import EmbeddingNoise
from tests.fakes.models import write_model
from tests.fakes.training import CPU, Killed, assert_bit_equal, kill_after, made_up_rows, run_training


def test_the_noise_of_a_row_is_that_of_the_paper_for_its_own_length(tmp_path: Path) -> None:
    model = load_model(resolve_base(str(write_model(tmp_path))), dtype=torch.float32, device=CPU)
    embeddings = model.get_input_embeddings()
    batch = pack(made_up_rows(5), share=False)
    ids = torch.tensor(batch.ids)[None]
    plain = embeddings(ids)
    noise = EmbeddingNoise(model, 5.0)
    assert torch.equal(embeddings(ids), plain)
    torch.manual_seed(1)
    with noise.on(batch):
        added = (embeddings(ids) - plain)[0]
        again = (embeddings(ids) - plain)[0]
    torch.manual_seed(1)
    with noise.on(batch):
        assert torch.equal((embeddings(ids) - plain)[0], added)
    assert not torch.equal(again, added)
    for start, stop in pairwise(batch.starts):
        bound = 5.0 / ((stop - start) * 64) ** 0.5
        largest = float(added[start:stop].abs().max())
        assert 0.95 * bound < largest <= bound * 1.001
        assert abs(float(added[start:stop].mean())) < 0.1 * bound
    assert torch.equal(embeddings(ids), plain)


def test_a_run_with_noise_resumes_bit_for_bit(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    run_training(base, tmp_path / "alone", neftune=5.0, max_steps=6)
    with pytest.raises(Killed):
        run_training(base, tmp_path / "killed", kill_after(5), neftune=5.0, max_steps=6)
    run_training(base, tmp_path / "killed", neftune=5.0, max_steps=6)
    assert_bit_equal(tmp_path / "alone", tmp_path / "killed")
