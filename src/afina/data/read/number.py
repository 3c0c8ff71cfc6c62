"""A number of a file, told apart from a text that looks like one."""

from __future__ import annotations


class Number(str):
    """The digits as they stand in the file: ``1.50`` stays ``1.50``, in an answer as in a tool's arguments."""

    __slots__ = ()
