"""What the front ends know about this host beyond the store: its workers' processes and files."""
