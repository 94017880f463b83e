"""The reference client and server: how it is done right, and what makes every scenario runnable at once.

Reading order: `outcome`, `backoff`, `states`, `workload` and `options` are pure; `tap` and `connection` carry one
connection; `heartbeat` watches it; `client` and `server` are the two subjects. They use what any subject may use,
`chaos.report` and `chaos.subject`, and nothing of the harness.
"""
