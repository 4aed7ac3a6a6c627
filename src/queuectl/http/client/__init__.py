"""The client of an HTTP server: where it finds its token."""
