"""Runs the holder for `python -m queuectl.worker.holder`."""

from queuectl.worker.holder.main import entry

entry()
