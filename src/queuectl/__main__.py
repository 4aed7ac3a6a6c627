"""`python -m queuectl` is `queuectl`."""

from queuectl.cli.main import entry

entry()
