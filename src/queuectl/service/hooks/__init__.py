"""Hooks: add and change them, read them, the jobs that they add, and the delivery of a webhook."""
