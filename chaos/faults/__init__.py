"""The pure core: toxic and fault machines, and the pipe that chains them on one direction of a connection.

Time and randomness are arguments, bytes are values, and nothing here waits or touches a socket. Code in here may
import the vocabulary and `chaos.wire`.
"""
