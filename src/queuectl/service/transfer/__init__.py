"""Export and import of a queue, and the file of a purge."""
