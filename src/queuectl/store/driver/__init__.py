"""The parts that all drivers share, for example the encoding, the server's clock, and the reader of SQL files."""
