from pathlib import Path

from afina.model.base import resolve_base
from afina.stages.fingerprint import of_base, of_model


def test_a_model_is_another_with_an_adapter_and_with_other_weights_in_it(tmp_path: Path) -> None:
    base = resolve_base("tiny")
    adapter = tmp_path / "adapter_model.safetensors"
    adapter.write_bytes(b"first")
    first = of_model(base, tmp_path)
    assert first == of_model(base, tmp_path)
    adapter.write_bytes(b"other")
    assert len({first, of_model(base, tmp_path), of_model(base, None), of_base(base)}) == 4
