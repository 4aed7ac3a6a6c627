"""The path of the named pipe on which the commands of a worker report their progress."""

from pathlib import Path


def path_of(directory: Path, worker_id: str) -> Path:
    """The path of a worker's pipe. The pipe may not exist."""
    return directory / f"{worker_id}.progress"
