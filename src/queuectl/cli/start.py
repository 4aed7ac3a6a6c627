"""The `queuectl` command. This module is small, so that Ctrl+C is handled before a large module is loaded."""

from queuectl import interrupt

interrupt.end_at_once()


def entry() -> None:
    """Run the command line of this process."""
    from queuectl.cli.main import entry as run

    run()
