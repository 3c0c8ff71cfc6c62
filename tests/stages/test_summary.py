from afina.measure.intervals import Interval
from afina.stages.summary import MetricLine, Summary


def summary_of(*contenders: str) -> str:
    verdicts = dict(zip(contenders[1:], ["better", "worse", "too close to tell", "better"], strict=False))
    line = MetricLine("f1", "word F1", {name: Interval(0.5, 0.4, 0.6) for name in contenders}, verdicts)
    prompts = {name: 31.0 + 400 * place for place, name in enumerate(contenders)}
    return Summary("x", 30, 30, (line,), prompts, {"a.gguf": 1024}, {"train": 1.0}, "embedded", "¿?", "!").as_text()


def test_of_two_contenders_the_verdict_is_a_word_at_the_end() -> None:
    lines = summary_of("prompt", "tuned").splitlines()
    assert lines[2].split() == ["word", "F1", "50", "%", "(40–60)", "50", "%", "(40–60)", "better"]
    assert lines[3].split() == ["tokens", "a", "prompt", "31", "431"]
    assert "▲" not in "".join(lines)


def test_of_more_each_value_has_a_sign_that_is_explained_below() -> None:
    text = summary_of("prompt", "few_shot", "rag", "tuned", "tuned+rag")
    head, values, tokens, told = text.splitlines()[1:5]
    assert "tuned + RAG" in head
    assert [sign for sign in values if sign in "▲▼≈"] == ["▲", "▼", "≈", "▲"]
    assert tokens.split()[-5:] == ["31", "431", "831", "1,231", "1,631"]
    assert told == "  against base: ▲ better, ▼ worse, ≈ too close to tell"


def test_of_one_there_is_nothing_to_tell() -> None:
    assert "better" not in summary_of("tuned")
