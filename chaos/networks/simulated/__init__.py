"""Simulated TCP on virtual time, behind trio's socket factory: what an application can observe, and no further.

`fabric` owns the order of events, `endpoint` is one end of a TCP connection, `sockets` is what trio programs hold.
Limits are stated where they are made.
"""
