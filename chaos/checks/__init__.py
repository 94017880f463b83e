"""Checks: pure functions from a trace to judgements, and what these add up to.

Reading order: `verdict` (outcomes), `connections` (what became of each connection), `context` (when each timeline
entry was in force, and all else that checks read of a trace), `guards` (may this run be judged at all), `judge` (the
one function to call). Every other file holds the checks of one theme. Files here may import errors, trace,
vocabulary and scenario.
"""
