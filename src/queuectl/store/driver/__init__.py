"""What the drivers share: one encoding, one clock, one way to read SQL files."""
