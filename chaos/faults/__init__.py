"""The pure core: toxic and fault machines, and the pipe that chains them on one direction of a connection.

Time and randomness are arguments, bytes are values; nothing here waits. May import errors and vocabulary.
"""
