"""Subjects: the reference client and server, which show how it is done right and make every scenario runnable.

Reading order: `outcome`, `backoff`, `states`, `workload` and `options` are pure; `tap` and `connection` carry one
connection; `heartbeat` watches it; `client` and `server` are the two subjects.
"""
