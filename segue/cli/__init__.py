"""The `segue` command: thin; every command calls one room.

Never: holds logic of its own.
"""

from segue.cli.main import app

__all__ = ["app"]
