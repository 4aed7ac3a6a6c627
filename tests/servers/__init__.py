"""The real servers that the tests run over, and what can be done to them: stopped, killed, shared, cut off.

`postgres` is a PostgreSQL of our own out of a wheel, `bouncer` a pool in front of it, `proxy` the network between.
Each takes a private port and a directory of its own, and is gone with both when its test is.
"""
