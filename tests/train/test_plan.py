"""The plan: the first rung that fits, the line of the longest context, what is said where nothing fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from afina.core.errors import RecipeError, ResourceError
from afina.core.units import GIB, MIB
from afina.train import plan as planning
from afina.train.cards import CUDA_CONTEXT, DESKTOP
from afina.train.plan import ContextNeeds, Wishes, longest_context, make_plan, require_fit, tokens_that_keep_busy
from afina.train.sizes import Rows
from afina.train.target import Target, named_gpu
from tests.train.test_dry import setup_of

ROWS = Rows(longest=100, step=400, trained_share=0.5)


def card(free_bytes: int) -> Target:
    return Target("card", "cuda", free_bytes, {"cuda context": 0}, 10.0, 0, torch.bfloat16, here=False)


def test_what_fits_at_once_is_trained_the_fastest_way() -> None:
    found = make_plan(setup_of("llama", 2), card(GIB), ROWS, Wishes())
    assert found.fits
    assert found.choices == {"micro_tokens": 16384, "checkpointing": "none", "mlp_tile": None, "lanes": 1}
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
    assert found.choices == {"micro_tokens": 128, "checkpointing": "full", "mlp_tile": None, "lanes": 1}


def test_the_gradients_of_the_micro_batches_before_are_there_beside_the_next_one_s_activations() -> None:
    setup, wishes = setup_of("llama", 2), Wishes(micro_tokens=128, checkpointing="none")
    first = make_plan(setup, card(GIB), replace(ROWS, step=128), wishes).chosen
    later = make_plan(setup, card(GIB), replace(ROWS, step=512), wishes).chosen
    assert first.by_category.get("gradients", 0) < later.by_category["gradients"] == later.by_category["adapter"]
    assert first.by_category["activations"] == later.by_category["activations"]


def test_micro_batches_side_by_side_are_given_up_first_where_memory_is_short() -> None:
    setup = setup_of("llama", 2, "cpu")
    here = replace(card(GIB), kind="cpu", fixed={"program": 0})
    beside = make_plan(setup, here, ROWS, Wishes(lanes=2))
    alone = make_plan(setup, here, ROWS, Wishes())
    assert (beside.choices["lanes"], beside.choices["micro_tokens"]) == (2, 4096)
    needs, least = beside.chosen.by_category, alone.chosen.by_category
    assert needs["gradients"] == 3 * needs["adapter"]  # the step's, and those of each lane
    assert needs["weights"] == least["weights"]
    assert beside.chosen.needed_bytes > alone.chosen.needed_bytes
    short = make_plan(setup, replace(here, free_bytes=beside.chosen.needed_bytes - 1), ROWS, Wishes(lanes=2))
    assert [rung.lanes for rung in short.ladder] == [2, 1]
    assert short.chosen.needed_bytes == alone.chosen.needed_bytes


def test_smaller_micro_batches_side_by_side_come_before_one_at_a_time() -> None:
    setup = setup_of("llama", 2, "cpu")
    here = replace(card(GIB), kind="cpu", fixed={"program": 0})
    rows = Rows(longest=100, step=16_000, trained_share=0.5)
    most = make_plan(setup, here, rows, Wishes(lanes=2)).chosen.needed_bytes
    short = make_plan(setup, replace(here, free_bytes=most - 1), rows, Wishes(lanes=2))
    assert [(rung.lanes, rung.micro_tokens) for rung in short.ladder] == [(2, 4096), (2, 2048)]
    none = make_plan(setup, replace(here, free_bytes=1), rows, Wishes(lanes=2))
    assert [(rung.lanes, rung.micro_tokens) for rung in none.ladder][:3] == [(2, 4096), (2, 2048), (1, 4096)]


def test_each_of_several_micro_batches_has_its_part_of_a_step() -> None:
    """Rows of 100 tokens, steps of 400: four lanes hold 500 tokens at once at most, which is 125 each."""
    setup = setup_of("llama", 2, "cpu")
    here = replace(card(GIB), kind="cpu", fixed={"program": 0})
    four = make_plan(setup, here, ROWS, Wishes(lanes=4)).chosen.by_category
    rows = Rows(longest=100, step=25, trained_share=0.5)  # a step is one row of 100 tokens, or a shorter one and that
    one = make_plan(setup, here, rows, Wishes()).chosen.by_category
    assert four["activations"] == pytest.approx(4 * one["activations"], rel=0.01)


def test_what_fits_nowhere_is_told_with_by_how_much_and_what_helps() -> None:
    found = make_plan(setup_of("llama", 2), card(MIB), ROWS, Wishes())
    assert not found.fits
    assert found.ladder[-1].saving.checkpointing == "offload"
    with pytest.raises(ResourceError, match=r"the leanest way needs .* free on card: .* too much") as told:
        require_fit(found)
    assert "a smaller base" in told.value.fix


def test_the_longest_context_fits_and_little_more_would() -> None:
    """Between the places that are run dry, and above them; one size after the other, the largest first."""
    setup = replace(setup_of("llama", 2), dtype=torch.bfloat16)
    needs, true = ContextNeeds(setup, card(GIB)), ContextNeeds(setup, card(GIB))
    for tokens in (70_000, 20_000, 3000):
        longest = longest_context(needs, true(tokens))
        assert true(longest) <= true(tokens)
        assert longest == pytest.approx(tokens, rel=0.1)
    assert longest_context(needs, true(1024) - 1) == 0


@pytest.mark.parametrize(("bend", "free"), [(4000, 9000), (4000, 40_000), (20_000, 40_000), (50_000, 80_000)])
def test_a_need_that_bends_upwards_is_not_told_too_small(bend: int, free: int) -> None:
    class Bent(ContextNeeds):
        def __call__(self, tokens: int) -> int:
            self.known[tokens] = max(1000 + tokens // 8, tokens - bend + 1000 + bend // 8)
            return self.known[tokens]

    needs = Bent(setup_of("llama", 2), card(GIB))
    assert 0 < needs(longest_context(needs, free)) <= free


@pytest.mark.parametrize("tflops", [0.001, 100.0])
def test_a_fast_card_is_kept_busy(tflops: float) -> None:
    """It computes a layer again rather than wait for the program between small micro-batches."""
    setup, rows = setup_of("llama", 2), Rows(longest=100, step=40_000, trained_share=0.5)
    tight = make_plan(setup, replace(card(MIB), tflops=tflops), rows, Wishes())
    busy = min(16384, max(1024, tokens_that_keep_busy(tight.target, 2, tight.ladder[0].flops_a_token)))
    first = next(rung for rung in tight.ladder if rung.saving.checkpointing != "none")
    assert first.micro_tokens == busy == (1024 if tflops < 1 else 16384)
    assert tight.seconds_per_step >= 40_000 / tight.chosen.micro_tokens * 2 * planning.LAUNCH_S


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
