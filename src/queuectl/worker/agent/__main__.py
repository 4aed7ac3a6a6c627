"""Runs the agent for `python -m queuectl.worker.agent`."""

from queuectl.worker.agent.main import main

main()
