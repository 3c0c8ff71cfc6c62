"""The language of a text: right or silent, hardly ever wrong, on real paragraphs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from afina.data.clean.language import language_of, other_language


def paragraphs(folder: Path, length: int) -> list[str]:
    return [
        line[:length]
        for file in sorted(folder.glob("*.md"))
        for line in file.read_text(encoding="utf-8").split("\n")
        if len(line) >= length
    ]


@pytest.mark.parametrize(("length", "known"), [(80, 0.65), (300, 0.97)])
@pytest.mark.parametrize("language", ["es", "en"])
def test_real_paragraphs_are_told_and_hardly_ever_wrongly(shared_data: Path, language: str, length: int, known: float) -> None:
    texts = paragraphs(shared_data / "rag-xquad" / f"docs-{language}", length)
    told = Counter(language_of(text) for text in texts)
    assert told[language] >= known * len(texts)
    assert len(texts) - told[language] - told[""] <= 1


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Der Hund ist nicht im Haus und wir suchen ihn auf der Straße.", "de"),
        ("Le chien n'est pas dans la maison et nous le cherchons dans la rue.", "fr"),
        ("O cachorro não está em casa e nós também não sabemos para onde ele foi.", "pt"),
        ("Il cane non è nella casa e lo cerchiamo anche nella strada degli amici.", "it"),
        ("El gos no és a casa i amb els amics també hem anat fins on va la seva mare.", "ca"),
        ("我们今天去公园散步，然后回家吃晚饭，非常开心。", "zh"),
        ("今日は公園に行って、それから家に帰りました。", "ja"),
        ("오늘은 공원에 가서 산책을 하고 집에 돌아왔습니다.", "ko"),
        ("Сегодня мы пошли в парк гулять, а потом вернулись домой ужинать.", "ru"),
        ("ok", ""),
        ("cancel_order", ""),
        ("12 + 30 = 42; 42 / 2 = 21; 21 * 3 = 63 and", ""),
        ("plus plus plus plus plus plus plus plus plus plus plus plus", ""),
    ],
)
def test_languages_are_told(text: str, language: str) -> None:
    assert language_of(text) == language


def test_code_does_not_count() -> None:
    code = "```python\nfor the in of and to is that it with as:\n    pass\n```"
    assert language_of(f"Así se hace:\n{code}\ny con eso ya está todo lo que hay que saber.") == "es"


def test_near_relatives_do_not_differ() -> None:
    assert other_language("O can non está na casa e tamén non sabemos onde está unha das súas amigas.", "es") == ""
    assert other_language("The dog is not in the house and we are looking for it.", "es") == "en"
    assert other_language("The dog is not in the house and we are looking for it.", "") == ""
