"""The real servers of the tests, and functions to stop, kill, share and disconnect them.

`postgres` is a PostgreSQL of our own out of a wheel, `bouncer` a pool in front of it; `mongo` is a MongoDB, and
`replica_set` one or three of them that elect who answers; `redis` is a Redis or a Valkey. `proxy` is the network
between us and any of them.
Each takes a private port and a directory of its own, and is gone with both when its test is.
"""
