"""A lost engine is tried again at once, then less and less often."""

from itertools import pairwise

from opera_service.engines.restarts import RestartPolicy


def test_attempts_are_further_and_further_apart_until_there_is_no_hope():
    policy, waits, hopeless = RestartPolicy(), [], []
    for _ in range(7):
        waits.append(policy.pause_s)
        hopeless.append(policy.hopeless)
        policy.attempts += 1
    assert waits[0] == 0.0
    assert all(later > earlier for earlier, later in pairwise(waits[:5]))
    assert waits[4:] == [60.0] * 3
    assert hopeless == [False] * 5 + [True] * 2
    policy.reset()
    assert (policy.pause_s, policy.hopeless) == (0.0, False)
