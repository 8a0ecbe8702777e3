"""The overload benchmark's own arithmetic."""

import overload


def test_a_row_counts_what_was_good_late_and_refused():
    answers = [overload.Outcome(200, seconds) for seconds in (0.5, 1.0, 2.0, 2.1)]
    others = [overload.Outcome(429, 0.1), overload.Outcome(504, 2.0), overload.Outcome(0, 9.0)]
    row = overload.summarise(4.0, answers + others, 10.0, 2.0)
    assert row == {
        "load": 4.0, "sent": 7, "goodput_per_s": 0.3, "late": 1, "p50_s": 1.5, "p99_s": 2.1, "refused_p50_s": 0.1,
        "statuses": {0: 1, 200: 4, 429: 1, 504: 1},
    }  # fmt: skip


def test_p99_is_the_99th_of_a_hundred():
    answers = [overload.Outcome(200, float(number)) for number in range(1, 101)]
    assert overload.summarise(1.0, answers, 1.0, 100.0)["p99_s"] == 99.0


def test_a_row_without_any_answer():
    row = overload.summarise(1.0, [], 1.0, 1.0)
    assert (row["goodput_per_s"], row["p50_s"], row["p99_s"]) == (0.0, None, None)
