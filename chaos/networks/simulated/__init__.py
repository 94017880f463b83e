"""Simulated TCP on virtual time, behind trio's socket factory: what an application can observe, and no further.

In reading order: `hosts` and `paths` say what lies between programs, `fabric` owns time and delivers packets, `linux`
has the kernel's figures. `states` is the table of TCP's states, `sender` and `endpoint` are one end of a connection,
`handshake` connects two of them. `world` knows ports and listeners, `sockets` are what trio programs hold, `end` is
what a link holds. `clock` and `collector` make virtual time, `doors` and `inside` put a program into a world, and
`network` applies a scenario to it all.
"""
