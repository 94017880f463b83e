"""The command line: one file per command. Importing this package imports nothing."""
