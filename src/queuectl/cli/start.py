"""The `queuectl` command: this module is small, so that Ctrl+C is in good hands before anything large is loaded."""

from queuectl import interrupt

interrupt.end_at_once()


def entry() -> None:
    """Run the command line of this process."""
    from queuectl.cli.main import entry as run

    run()
