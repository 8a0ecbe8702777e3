"""A verdict is made once, kept apart from its neighbours', and forgotten in time."""

from opera_service.rewards.verdict_cache import VerdictCache


def asked(cache: VerdictCache, *parts: str, says: bool = True) -> tuple[bool, bool]:
    """Return the verdict, and whether it was made now."""
    made = []
    found = cache.verdict(parts, lambda: made.append(1) or says)
    return found, bool(made)


def test_a_verdict_is_made_once():
    cache = VerdictCache(4)
    for says in (True, False):
        assert asked(cache, "a", str(says), says=says) == (says, True)
        assert asked(cache, "a", str(says), says=not says) == (says, False)


def test_parts_are_kept_apart():
    cache = VerdictCache(4)
    asked(cache, "ab", "c")
    assert asked(cache, "a", "bc", says=False) == (False, True)
    assert asked(cache, "c", "ab", says=False) == (False, True)


def test_the_longest_unused_verdict_leaves_first():
    cache = VerdictCache(2)
    for part in ("a", "b", "a", "c"):
        asked(cache, part)
    assert [asked(cache, part)[1] for part in ("a", "c", "b")] == [False, False, True]


def test_half_a_character_can_be_asked_about():
    assert asked(VerdictCache(1), "\ud800") == (True, True)
