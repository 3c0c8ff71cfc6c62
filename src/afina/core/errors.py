"""What can go wrong, as types. The exit code of the command line belongs to the type.

AfinaError
 ├── RecipeError     2   the recipe or the command line says something that cannot be done
 ├── DataError       3   an example or a model folder is not what it should be; always with its place
 ├── ResourceError   4   memory, disk, GPU, a missing extra, a folder in use
 ├── ServiceError    5   Ollama, the hub, the network, a served model
 └── QualityError    6   a gate was not passed: the result would not be right
"""

from __future__ import annotations


class AfinaError(Exception):
    """An error that the user can mend: ``what`` holds the value and its place, ``fix`` an imperative."""

    exit_code = 1

    def __init__(self, what: str, *, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _rebuild, (type(self), self.what, self.fix)


class RecipeError(AfinaError):
    exit_code = 2


class DataError(AfinaError):
    exit_code = 3


class ResourceError(AfinaError):
    exit_code = 4


class ServiceError(AfinaError):
    exit_code = 5


class QualityError(AfinaError):
    exit_code = 6


BUG_EXIT_CODE = 70
INTERRUPTED_EXIT_CODE = 130


def _rebuild(kind: type[AfinaError], what: str, fix: str) -> AfinaError:
    return kind(what, fix=fix)
