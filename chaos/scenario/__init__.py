"""From text to a plan: the model of a scenario file, its loader with positions, and the list of steps.

Pure but for reading a file's text. May import errors, trace, vocabulary and faults.
"""
