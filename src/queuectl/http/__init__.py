"""The HTTP server: routes that call `Queue`, and the process that serves them."""
