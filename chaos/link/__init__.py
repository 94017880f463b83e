"""The link: the proxy between a client and a server, and the one place where bytes move.

A listener for one client, a dial, two directions of one reader and one writer each, and passive observers at both
sides. May import everything above networks.
"""
