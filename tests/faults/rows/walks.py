"""Lists in pages, through a layer that misbehaves: see walks.py."""

from walks import main

__all__ = ["main"]
