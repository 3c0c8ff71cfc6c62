"""The quick looks before the patterns of numbers pass over nothing that the patterns find."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import example, given
from hypothesis import strategies as st

from afina.data.clean import numbers as module
from afina.data.clean.numbers import KINDS, Place, Span, alone, numbers, runs

PIECES = (
    "DNI ", "nıf ", "NIF: ", "CUENTA ", "Cédula de ciudadanía ", "ſſn ", "SSN ", "pasaporte ", "Iban ", "rut ", "cpf ", "n.i.f. ",
    "12345678Z", "4111 1111 1111 1111", "ES91 2100 0418 4502 0005 1332", "123-45-6789", "12.345.678-5", "20-12345678-6",
    "52998224725", "529.982.247-25", "RFC GODE561231GR8", "AB123456", "123456789", "(555) 123-4567", "12345678", "2021", "1.234",
    "x", "7", " ", ". ", "-", "/", "(", "\u00a0",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def one_by_one(text: str, near: list[Place]) -> Iterator[Span]:
    for start, end in near:
        if module._LONG_ENOUGH.search(text, start, end):
            window = max(0, start - module._BEFORE), min(len(text), end + module._BEHIND)
            for kind in KINDS:
                for found in kind.pattern.finditer(text, *window):
                    if alone(text, *found.span()) and (span := module._checked(kind, text, *found.span())):
                        yield span


@given(TEXTS)
@example("nıf 12345678Z")
@example("CUENTA 2100 0418 45 0200051332")
def test_the_quick_way_finds_what_the_patterns_find_one_by_one(text: str) -> None:
    assert runs(text) == [run.span() for run in module._RUN.finditer(text)]
    assert list(numbers(text, runs(text))) == list(one_by_one(text, runs(text)))
