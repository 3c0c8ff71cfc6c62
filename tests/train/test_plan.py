"""The plan: the first rung that fits, the line of the longest context, what is said where nothing fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from afina.core.errors import RecipeError, ResourceError
from afina.core.units import GIB, MIB
from afina.train import plan as planning
from afina.train.cards import CUDA_CONTEXT, DESKTOP
from afina.train.dry import Batch, dry_run
from afina.train.plan import Wishes, context_line, context_within, leanest, make_plan, require_fit
from afina.train.sizes import Rows
from afina.train.target import Target, named_gpu
from tests.train.test_dry import setup_of

ROWS = Rows(longest=100, step=400, trained_share=0.5)


def card(free_bytes: int) -> Target:
    return Target("card", "cuda", free_bytes, {"cuda context": 0}, 10.0, 0, torch.bfloat16, here=False)


def test_what_fits_at_once_is_trained_the_fastest_way() -> None:
    found = make_plan(setup_of("llama", 2), card(GIB), ROWS, Wishes())
    assert found.fits
    assert found.choices == {"micro_tokens": 16384, "checkpointing": "none", "mlp_tile": None}
    assert found.seconds_per_step > 0
    assert sum(found.chosen.by_category.values()) == found.chosen.needed_bytes


def test_less_memory_leads_further_down_the_ladder_and_each_rung_says_what_it_costs() -> None:
    setup = setup_of("llama", 2)
    roomy = make_plan(setup, card(GIB), ROWS, Wishes())
    tight = make_plan(setup, card(roomy.chosen.needed_bytes - 200_000), ROWS, Wishes())
    assert tight.fits
    assert not tight.ladder[0].fits
    assert tight.chosen.needed_bytes < roomy.chosen.needed_bytes
    assert tight.chosen.extra > 0.05
    again = make_plan(setup, card(roomy.chosen.needed_bytes - 200_000), ROWS, Wishes())
    assert again.choices == tight.choices


def test_what_the_recipe_fixes_is_not_chosen() -> None:
    found = make_plan(setup_of("llama", 2), card(GIB), ROWS, Wishes(micro_tokens=128, checkpointing="full"))
    assert found.choices == {"micro_tokens": 128, "checkpointing": "full", "mlp_tile": None}


def test_what_fits_nowhere_is_told_with_by_how_much_and_what_helps() -> None:
    found = make_plan(setup_of("llama", 2), card(MIB), ROWS, Wishes())
    assert not found.fits
    assert found.ladder[-1].saving.checkpointing == "offload"
    with pytest.raises(ResourceError, match=r"the leanest way needs .* free on card: .* too much") as told:
        require_fit(found)
    assert "a smaller base" in told.value.fix


def test_the_peak_grows_along_a_line_with_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_PROBES", (4096, 8192))
    setup = replace(setup_of("llama", 2), dtype=torch.bfloat16)
    first, slope = context_line(setup, card(GIB))
    tokens = 16384
    peak = dry_run(setup, Batch(tokens, tokens, tokens - 1), leanest(card(GIB), tokens), look=False).worst.peak
    assert first + slope * tokens == pytest.approx(1.03 * peak, rel=1e-3)
    assert context_within((first, slope), card(round(1.03 * peak))) == pytest.approx(tokens, abs=256)


def test_a_card_is_named_by_its_name_or_its_memory() -> None:
    assert named_gpu("12GiB").free_bytes == 12 * GIB - DESKTOP
    assert named_gpu("RTX 3060").free_bytes == 12 * GIB - DESKTOP
    assert named_gpu("NVIDIA H100").free_bytes == 80 * GIB
    assert named_gpu("t4").half == torch.float16
    assert named_gpu("24gb").fixed == {"cuda context": CUDA_CONTEXT}


@pytest.mark.parametrize(
    ("text", "told"), [("rtx3061", "did you mean 'rtx3060'"), ("12", "a size needs a unit"), ("12KiB", "a size needs a unit")]
)
def test_a_card_that_does_not_exist_is_refused_with_words(text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        named_gpu(text)
