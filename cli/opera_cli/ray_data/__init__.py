"""`opera-reward score --ray`: data sets of any size, scored by Ray Data with one engine a worker.

The input is cut into chunks by rule, and every chunk's results are one file, put in place in one step. So nothing
that dies, be it a worker or the command, loses or repeats a result. Only `run` needs Ray.
"""
