"""Put on a holder's path by a test: a holder that gives up soon."""

from queuectl.worker import agents

agents.GIVE_UP = 1.0
