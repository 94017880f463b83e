"""One run, from a plan to a trace and its verdict; and many runs side by side, each in a process.

`run` owns the outermost nursery of a run. `pool` has what carries runs in other processes. May import everything
above `api`.
"""
