"""How long property tests search: a fifth of the examples in `make test`, all of them in `make test-all`.

Both try the same examples every time, so that a change is judged by what it changed; `make search` draws new ones.
"""

import os

FULL = os.environ.get("OPERA_TEST_BUDGET") == "full"
REPEATABLE = os.environ.get("OPERA_TEST_SEARCH") != "random"


def examples(full: int) -> int:
    """Return how many examples a property test tries, of `full` with the full budget."""
    return full if FULL else max(10, full // 5)
