"""For all tests: how long property tests search, and that Ctrl-C reaches child processes."""

import signal
from contextlib import suppress

from tests.budget import REPEATABLE, examples

with suppress(ImportError):  # trainers' environments do without hypothesis
    from hypothesis import settings

    settings.register_profile("opera", max_examples=examples(100), deadline=None, derandomize=REPEATABLE)
    settings.load_profile("opera")

# A shell starts background jobs with SIGINT ignored, children inherit that, and Python then installs no handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
