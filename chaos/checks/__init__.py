"""Checks: pure functions from a trace to findings, and what findings add up to.

Reading order: `verdict` (outcomes), `entries` (when a timeline entry was in force), `connections` (what became of
each connection), `context` (all of that for one trace), `guards` (may this run be judged at all), `judge` (the one
function to call). Every other file holds the checks of one theme. May import errors, trace, vocabulary, scenario.
"""
