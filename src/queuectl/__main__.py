"""Runs `queuectl` for `python -m queuectl`."""

from queuectl.cli.start import entry

entry()
