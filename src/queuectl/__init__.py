"""A durable queue for shell commands.

Importing this package imports nothing else: a short command pays only for what it uses.
"""

__version__ = "0.1.0"
