from pathlib import Path

from afina.compare.kept import Kept, key_of


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "below" / "answers.jsonl"
    kept = Kept(path)
    assert kept.get("a") is None
    kept.put("a", ["ñ\ud800", [1, 2], None])
    kept.put("b", 2)
    kept.put("a", 3)
    again = Kept(path)
    assert (again.get("a"), again.get("b"), again.get("c")) == (3, 2, None)


def test_a_torn_last_line_is_not_there_and_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first = Kept(path)
    first.put("a", 1)
    first.put("b", 2)
    path.write_bytes(path.read_bytes()[:-4])
    torn = Kept(path)
    assert (torn.get("a"), torn.get("b")) == (1, None)
    torn.put("c", 3)
    again = Kept(path)
    assert (again.get("a"), again.get("b"), again.get("c")) == (1, None, 3)


def test_keys_differ_where_what_was_asked_does() -> None:
    keys = {key_of("m", [1, 2], 3), key_of("m", [1, 2], 4), key_of("m", [12], 3), key_of("n", [1, 2], 3)}
    assert len(keys) == 4
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
