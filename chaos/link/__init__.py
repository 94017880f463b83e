"""The link: the proxy between a client and a server, and the one place where bytes move.

A listener for one client, a dial, two directions (each read by a task or by calls, and written by a task
where something has to wait), and passive observers at both sides. May import everything above networks.
"""
