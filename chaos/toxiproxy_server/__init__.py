"""`trio-chaos toxiproxy-server`: Toxiproxy's HTTP API over the same links that scenarios use.

Importing this package imports nothing: the command line must answer at once.
"""
