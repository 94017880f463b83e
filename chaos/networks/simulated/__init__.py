"""Simulated TCP on virtual time, behind trio's socket factory: what an application can observe, and no further.

`fabric` owns the order of events, `paths` and `hosts` what lies between programs, `endpoint` is one end of a TCP
connection, `sockets` is what trio programs hold, `network` applies a scenario's faults. Limits are stated where they
are made.
"""
