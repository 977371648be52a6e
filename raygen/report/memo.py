"""A table of a study, computed once: a page asks for the same ones many times."""

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from raygen.results import Results

T = TypeVar("T")


def once_per_study(table: Callable[[Results], T]) -> Callable[[Results], T]:
    """Remember the result for as long as the study is in use; callers must not change it.

    A study cannot be a dictionary's key (its tables are not hashable), so its identity is: that of
    its table of trials, which is forgotten together with it.
    """
    tables: dict[int, Any] = {}

    @functools.wraps(table)
    def remembered(study: Results) -> T:
        key = id(study.trials)
        if key not in tables:
            tables[key] = table(study)
            weakref.finalize(study.trials, tables.pop, key, None)
        return tables[key]

    return remembered
