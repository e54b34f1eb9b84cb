"""`encoder`: simulate, pretrain, fit heads, export, inspect. A command is loaded when it is called."""

from encoder.cli.commands import main

__all__ = ["main"]
