"""Numbers with nouns, for the log lines of holder and agent."""


def counted(count: int, noun: str) -> str:
    """A number with its noun, for example `1 command`, `2 commands` or `2 processes`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}es" if noun.endswith("s") else f"{count} {noun}s"
