"""Fixtures that these tests share with others."""

from support.half_open import half_open, half_open_file, write_client

__all__ = ["half_open", "half_open_file", "write_client"]
