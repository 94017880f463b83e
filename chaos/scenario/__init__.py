"""Turns the text of a scenario file into a plan: the model, the loader with positions, the rules, the list of steps.

Pure: who calls the loader reads the files. It may import errors, trace, vocabulary and faults.
"""
