"""The Python API: a front end like the command line. Its names are exported by the package `queuectl` itself."""
