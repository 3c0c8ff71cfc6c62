from __future__ import annotations

import pickle

from afina.core import errors
from afina.core.errors import AfinaError


def test_each_kind_has_the_exit_code_that_the_documentation_promises() -> None:
    codes = {kind.__name__: kind.exit_code for kind in AfinaError.__subclasses__()}
    assert codes == {"RecipeError": 2, "DataError": 3, "ResourceError": 4, "ServiceError": 5, "QualityError": 6}
    assert errors.BUG_EXIT_CODE == 70
    assert errors.INTERRUPTED_EXIT_CODE == 130


def test_an_error_says_what_and_how_to_mend_it() -> None:
    error = errors.DataError("a.jsonl:3: no answer", fix="write one")
    assert str(error) == error.what == "a.jsonl:3: no answer"
    assert error.fix == "write one"


def test_an_error_keeps_its_fix_on_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.ServiceError("no answer", fix="start it")))
    assert isinstance(error, errors.ServiceError)
    assert (error.what, error.fix) == ("no answer", "start it")
