import gc

import pytest

from afina.core.collector import seldom_collected


def test_the_collector_is_as_before_behind_it_even_where_the_work_fails() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    inside = []

    def fail() -> None:
        with seldom_collected():
            inside.append((gc.get_freeze_count(), gc.get_threshold()[0]))
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert inside[0][0] > before[1]
    assert inside[0][1] > before[0][0]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_rings_made_inside_are_still_found() -> None:
    with seldom_collected():
        ring: list[object] = []
        ring.append(ring)
        del ring
        assert gc.collect() >= 1
