"""Holds every word that a scenario may use, with its parameters, units, ranges and meaning.

Parser, JSON Schema, error messages, `trio-chaos list` and the reference pages all read these. Pure; imports
pydantic and nothing of the project's but errors.
"""
