"""For all tests: Ctrl-C reaches child processes also when the suite itself runs in the background."""

import signal

# A shell starts background jobs with SIGINT ignored, children inherit that, and Python then installs no handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
