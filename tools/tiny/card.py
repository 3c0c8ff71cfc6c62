"""Write the tiny model's card from what ``tools.tiny.check --json`` measured.

python -m tools.tiny.check src/afina/model/tiny --each 200 --json > /work/tiny/scores.json
python -m tools.tiny.card /work/tiny/scores.json src/afina/model/tiny --trained "2,400 steps, 7.4 million tokens, 70 minutes"
"""

import argparse
import json
from pathlib import Path

from safetensors import safe_open

from afina.core.files import write_atomic
from tools.tiny.check import ABILITIES
from tools.tiny.train import CONFIG, LONGEST

TEXT = """---
language: [es, en]
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# tiny

The base model that comes with afina, so that `afina demo` and the tests can train, compare and export a real language model
in a minute, offline and without a GPU. It is a teaching model of {parameters:,} parameters. It is not an assistant and knows
nothing: what it is made for is to read a short text, to go on with a pattern, and to follow a simple instruction.

| | |
|---|---|
| shape | Llama: {layers} layers, width {width}, MLP {mlp}, {heads} heads, {kv} key-value heads, tied embeddings, RoPE θ 10,000 |
| context | 1,024 positions; trained on dialogues of up to {longest} tokens, 100 to 190 on average, by course |
| weights | bfloat16, {megabytes:.1f} MB |
| tokenizer | byte-level BPE, 4,096 tokens, Qwen2's splitting expression, no beginning-of-text token |
| template | ChatML: `<\\|im_start\\|>role`, text, `<\\|im_end\\|>` |
| languages | Spanish and English |

## Data

Dialogues from the grammars and word lists in `tools/tiny/`; no text of others. About half of their tokens are worlds of facts
to be read out of a prompt, among others and with what is not there; then patterns to go on with, lists, copies, instructions
such as "answer in upper case", labels, and small talk. Names, brands, codes and numbers are invented anew each time. One name,
place and invented word in eight is kept out of training; the scores use those. The answers have an ordinary style: the house
style of the demo does not occur, nor does anything of its shop.

## Training

By afina's own training loop in full-parameter mode: {trained}.

It starts from random weights with a circuit in them that copies (`tools/tiny/start.py`) and takes five courses: dialogues, with
some rows of random tokens among them that are said twice (`tools/tiny/blocks.py`); longer ones with passages as a search finds
them; many in which a name leads to a value; drills, a text and nearly all that it says, asked one after the other among things
that it does not say, and patterns that go on for long; and all of it once more, more than twice as much as before, in minutes on
a GPU, begun from the weights rounded to bfloat16. From the drills on Muon moves the matrices. (The first four sets were made by
earlier states of the generator: the commands give others.)

    python -m tools.tiny.generate DATA --count 120000 --seed 11
    python -m tools.tiny.train dialogues DATA src/afina/model/tiny --state STATE --steps {steps[0]} --batch-tokens 2048
    python -m tools.tiny.generate MORE --count 26000 --seed 12
    python -m tools.tiny.train passages MORE src/afina/model/tiny --state STATE --steps {steps[1]} --batch-tokens 3072 \\
        --peak 5e-4 --schedule linear --from dialogues
    python -m tools.tiny.generate LONG --count 60000 --seed 14 \\
        --share reading=34 passages=12 value=16 entries=8 copied=8 few_shot=22
    python -m tools.tiny.train exercises LONG src/afina/model/tiny --state STATE --steps {steps[2]} --batch-tokens 2048 \\
        --peak 8e-4 --schedule wsd --seed 5 --from passages
    python -m tools.tiny.generate LAST --count 80000 --seed 31 \\
        --share reading=60 drill=60 passages=30 value=20 entries=18 copied=20 few_shot=30 long_pattern=45
    python -m tools.tiny.train drills LAST src/afina/model/tiny --state STATE --steps {steps[3]} --batch-tokens 4096 \\
        --peak 1e-3 --schedule linear --optimizer muon --seed 9 --from exercises
    python -m tools.tiny.generate MANY --count 440000 --seed 51 \\
        --share reading=40 drill=50 passages=30 value=30 entries=15 copied=15 few_shot=40 long_pattern=30 mood=8 topic=6 \\
        list=10 prefix=10 language=6 order=6
    python -m tools.tiny.train world MANY src/afina/model/tiny --state STATE --steps {steps[4]} --batch-tokens 65536 \\
        --peak 5e-3 --schedule linear --optimizer muon --from drills
    python -m tools.tiny.install STATE/world/model src/afina/model/tiny
    python -m tools.tiny.check src/afina/model/tiny --each 100 --json > scores.json
    python -m tools.tiny.card scores.json src/afina/model/tiny --trained "…"

## Scores

Greedy answers to questions with words that training never saw, with 95 % intervals. Right means the expected answer, word for
word, except where it says "obeys": there the form counts. A goal is what was aimed at.

| | goal | Spanish | English |
|---|---:|---:|---:|
{scores}

## Limits

Whatever it says about the world is chance. It cannot calculate, and it answers questions unlike its training text with a fluent
sentence about something else. Do not use it for anything but learning how training works.

## En español

Es un modelo didáctico de {millions} millones de parámetros, entrenado desde cero con diálogos generados por los programas de
`tools/tiny/`, en español y en inglés. Sirve para ver en pocos minutos, sin conexión y sin GPU, cómo se entrena, se compara y se
exporta un modelo. Lee textos cortos, sigue patrones e instrucciones sencillas; no sabe nada y no es un asistente.
"""


def _row(name: str, shares: dict[str, list[float]]) -> str:
    goal = ABILITIES[name].goal
    cells = [f"{value:.0%} ({low:.0%}–{high:.0%})" for value, low, high in (shares["es"], shares["en"])]
    return f"| {ABILITIES[name].title} | {f'{goal:.0%}' if goal else ''} | {' | '.join(cells)} |".replace("%", " %")


def card(scores: dict[str, dict[str, list[float]]], folder: Path, trained: str, steps: tuple[int, ...]) -> str:
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    return TEXT.format(
        parameters=parameters,
        millions=f"{parameters / 1e6:.1f}".replace(".", ","),
        layers=CONFIG["num_hidden_layers"],
        width=CONFIG["hidden_size"],
        mlp=CONFIG["intermediate_size"],
        heads=CONFIG["num_attention_heads"],
        kv=CONFIG["num_key_value_heads"],
        longest=LONGEST,
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        trained=trained,
        steps=steps,
        scores="\n".join(_row(name, shares) for name, shares in scores.items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trained", required=True, help="steps, tokens and time, in words")
    parser.add_argument("--steps", type=int, nargs=5, default=(4000, 950, 2700, 2450, 955), help="of the courses")
    chosen = parser.parse_args()
    scores = json.loads(chosen.scores.read_text(encoding="utf-8"))
    write_atomic(chosen.folder / "README.md", card(scores, chosen.folder, chosen.trained, tuple(chosen.steps)))


if __name__ == "__main__":
    main()
