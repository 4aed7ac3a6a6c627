"""Reads the processes and files of the workers on this host. The command line and the Python API use it."""
