"""Schedules: add and change them, read them, files of them, and the jobs that they add."""
