"""Alarms while training: each is said once as long as it rings, by the first process only."""

from types import SimpleNamespace

from opera_trainer.grpo.ringing import Alarms


def logged(bell, shares, first=True):
    history = []
    for step, share in enumerate(shares, start=1):
        history.append({"step": step, "opera/flag/format_gate": share, "note": "no number"})
        state = SimpleNamespace(is_world_process_zero=first, global_step=step, log_history=list(history))
        bell.on_log(None, state, None)


def test_an_alarm_is_said_when_it_begins_to_ring():
    said = []
    logged(Alarms(said.append), [0.0, 1.0, 1.0, 1.0])
    assert len(said) == 1
    assert said[0].startswith("  alarm, step 3: gated: 67% of the responses")


def test_it_is_said_again_after_it_was_quiet():
    said = []
    logged(Alarms(said.append), [1.0] * 3 + [0.0] * 20 + [1.0] * 10)
    assert [line.split(":")[0] for line in said] == ["  alarm, step 1", "  alarm, step 29"]


def test_other_processes_are_silent():
    said = []
    logged(Alarms(said.append), [1.0, 1.0], first=False)
    assert said == []
