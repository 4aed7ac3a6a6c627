"""The agent: the program of a worker that talks to the store. Its work is a list of duties (`duty.py`, `main.py`)."""
