"""`python -m queuectl` is `queuectl`."""

from queuectl.cli.start import entry

entry()
