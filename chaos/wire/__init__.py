"""What stands on the wire: HTTP heads, WebSocket frames, and what an observer reads out of both. Pure.

Imports `trace` and `vocabulary` alone. Nothing here does I/O: bytes are arguments, and what was read is returned.
"""
