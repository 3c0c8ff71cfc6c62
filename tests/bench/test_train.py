"""What bench/train.py computes from what the contenders say. None of them is run here."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from bench.sides import contest, growth, work
from bench.sides.contest import Contender, FailedError, Step, counted, largest_differences, step_seconds
from bench.sides.flops import Shape, needed_flops
from bench.train import AFINA, Counts, Found, Side, losses_agree, ours, peers_on_cpu, report, summary

CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 64,
}


def step(number: int, seconds: float, foreign: float = 0.0, loss: float = 2.0, norm: float = 1.0) -> Step:
    return Step(number, foreign, seconds, seconds, 2**30, loss, norm)


def test_the_needed_flops_are_those_that_torch_counts() -> None:
    """torch's counter on transformers' Llama with PEFT's LoRA: but for what the count says that it leaves out."""
    tokens, rank = 24, 4
    config = transformers.LlamaConfig(**{**CONFIG, "attn_implementation": "eager"})
    model = get_peft_model(
        transformers.LlamaForCausalLM(config), LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    ids = torch.arange(tokens)[None]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    shape = Shape.of(CONFIG)
    masked = 12 * shape.layers * shape.width * (tokens * tokens - tokens * (tokens + 1) // 2)  # computed all the same
    into_the_embedding = (
        2 * tokens * (shape.width * (shape.width + 2 * shape.kv) + 3 * rank * shape.width)
    )  # first layer's q, k and v
    needed = needed_flops(shape, rank, [(tokens, tokens)])
    assert counter.get_total_flops() == needed + masked - into_the_embedding


def test_rows_count_one_by_one() -> None:
    shape = Shape.of(CONFIG)
    both = needed_flops(shape, 8, [(10, 4), (20, 0)])
    assert both == needed_flops(shape, 8, [(10, 4)]) + needed_flops(shape, 8, [(20, 0)])
    assert both < needed_flops(shape, 8, [(30, 4)])  # a longer row sees more


def test_the_first_step_and_loaded_ones_do_not_count() -> None:
    steps = [step(1, 9.0), step(2, 1.0), step(3, 5.0, foreign=0.4), step(4, 1.2), step(5, 1.1, foreign=0.05)]
    kept, quiet = counted(steps, limit=0.05)
    assert ([one.number for one in kept], quiet) == ([2, 4, 5], True)


def test_where_it_is_never_quiet_all_count_and_it_is_told() -> None:
    steps = [step(1, 9.0), step(2, 1.0), step(3, 2.0, foreign=0.4), step(4, 3.0, foreign=0.3)]
    kept, quiet = counted(steps, limit=0.05)
    assert ([one.number for one in kept], quiet) == ([2, 3, 4], False)
    assert counted(steps[:1], limit=0.05) == (steps[:1], True)
    assert counted([step(1, 9.0, foreign=0.2)], limit=0.05)[1] is False


def test_seconds_are_of_a_step_of_average_size() -> None:
    tokens = [100, 200, 400]
    assert step_seconds([step(2, 2.0), step(3, 4.0)], tokens, 250.0) == pytest.approx(2.5)  # 10 ms a token, whatever the sizes
    assert step_seconds([step(1, 1.0), step(2, 2.0), step(3, 40.0)], tokens, 100.0) == pytest.approx(1.0)


def found(side: Side, losses: list[float], seconds: float = 1.0, norm: float = 1.0) -> Found:
    steps = [step(number, seconds, loss=loss, norm=norm) for number, loss in enumerate(losses, 1)]
    return Found(side, {"dtype": "float32"}, 1.0, steps)


def test_losses_agree_within_the_tolerance_of_the_number_type() -> None:
    afina, trl = Side(AFINA, "", {}), Side("TRL, default", "", {}, compute="float32")
    rough = Side("LLaMA-Factory", "", {}, compute="bfloat16")
    near = {AFINA: found(afina, [3.0, 2.5]), "t": found(trl, [3.0002, 2.5]), "l": found(rough, [3.004])}
    assert losses_agree(near)
    assert not losses_agree({**near, "t": found(trl, [3.01, 2.5])})
    assert not losses_agree({**near, "t": found(trl, [3.0, 2.5], norm=0.0)})
    assert largest_differences({"x": [1.0, 2.0], "y": [1.5], "z": [1.0, 2.2]}) == pytest.approx({"x": 0.1, "y": 0.5, "z": 0.1})


def test_the_line_is_what_the_reports_say() -> None:
    counts, shape = Counts([(100, 40)] * 16 * 18), Shape.of(CONFIG)
    default, fast = peers_on_cpu(native=True)[0], peers_on_cpu(native=True)[-1]
    everyone = {
        AFINA: found(ours()[0], [3.0, 2.5, 2.0], seconds=2.0),
        default.name: found(default, [3.0, 2.5, 2.0], seconds=10.0),
        fast.name: found(fast, [3.0, 2.5, 2.0], seconds=5.0),
    }
    speeds = {"float32": 1e9, "bfloat16": 2e9}
    reports = {name: report(one, counts, shape, speeds, 0.05) for name, one in everyone.items()}
    line = summary("b", everyone, reports)
    assert (line["afina_step_s"], line["ratio_trl_default"], line["ratio_best_peer"]) == (2.0, 5.0, 2.5)
    assert line["peers"] == {default.name: 10.0, fast.name: 5.0}
    assert line["mfu"] == pytest.approx(needed_flops(shape, 16, [(100, 40)] * 16) / 2.0 / 1e9, abs=1e-4)
    assert reports[fast.name]["mfu"] == pytest.approx(line["mfu"] * 2 / 5 / 2, abs=1e-4)
    assert reports[AFINA]["trained_tokens_per_second"] == pytest.approx(16 * 40 / 2.0)
    assert (line["losses_agree"], line["quiet"], line["grad_norm"], line["peak_gib"]) == (True, True, 1.0, 1.0)


def test_a_cpu_without_bfloat16_lets_peers_have_float32_too() -> None:
    names = {side.name for side in peers_on_cpu(native=False)}
    assert {side.name for side in peers_on_cpu(native=True)} - {"TRL, best"} < names
    assert {side.compute for side in peers_on_cpu(native=False) if not side.is_slow} == {"float32"}


def test_chats_are_counted_as_the_tokenizer_counts_them() -> None:
    tokenizer = work.make_tokenizer(256, 2048)
    chats = list(work.make_chats(256))[:20]
    for chat in chats:
        made: Any = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
        assert work.count_tokens(chat) == (len(made["input_ids"]), sum(made["assistant_masks"]))
    counts = [work.count_tokens(chat) for chat in work.make_chats(4096)]
    assert len(counts) == 300
    assert max(tokens for tokens, _trained in counts) <= work.LONGEST
    assert 0.38 < sum(trained for _tokens, trained in counts) / sum(tokens for tokens, _trained in counts) < 0.42


TURNS = "import json, sys; print(json.dumps({'ready': True, 'dtype': 'float32'}), flush=True)\n"


def test_a_contender_makes_a_step_at_each_word(tmp_path: Path) -> None:
    program = tmp_path / "side.py"
    program.write_text(
        TURNS + "for line in sys.stdin:\n"
        "    answer = {'seconds': 0.5, 'cpu_seconds': 0.4, 'peak_bytes': 7, 'loss': 3.0, 'gradient_norm': 1.5, 'flops': 9}\n"
        "    print(json.dumps(answer), flush=True)\n"
    )
    contender = Contender([sys.executable, program], {}, tmp_path / "log.txt")
    first, second = contender.take_turn(), contender.take_turn()
    contender.end()
    assert contender.facts["dtype"] == "float32"
    assert (first.number, second.number, first.seconds, first.loss, first.more) == (1, 2, 0.5, 3.0, {"flops": 9})
    assert 0.0 <= first.foreign <= 1.0


def test_a_contender_that_falls_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "side.py"
    program.write_text(TURNS + "sys.stdin.readline(); sys.exit('no memory left')\n")
    contender = Contender([sys.executable, program], {}, tmp_path / "log.txt")
    with pytest.raises(FailedError, match="no memory left"):
        contender.take_turn()
    contender.end()


def test_the_load_of_others_is_the_machine_less_the_contender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose cores all work, of which the contender uses nothing: all of it is foreign."""
    program = tmp_path / "side.py"
    program.write_text(
        TURNS + "import time\nfor line in sys.stdin:\n"
        "    time.sleep(0.2); print(json.dumps({'seconds': 0.2, 'cpu_seconds': 0.0, 'peak_bytes': 1}), flush=True)\n"
    )
    cores, start = 4, time.perf_counter()
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(contest, "busy_seconds", lambda: cores * (time.perf_counter() - start))
    contender = Contender([sys.executable, program], {}, tmp_path / "log.txt")
    assert contender.take_turn().foreign == pytest.approx(1.0, abs=0.1)
    contender.end()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_point_of_the_growth_is_measured_each_way(tmp_path: Path) -> None:
    found = growth.measure(growth.Point(tokens=64, layers=2, rank=4), tmp_path)
    assert found.keys() == growth.SETTINGS.keys()
    for one in found.values():
        assert one["seconds"] > 0 < one["peak_gib"]
        assert len(one["losses"]) == growth.STEPS
        assert one["gradient_norm"] > 0
