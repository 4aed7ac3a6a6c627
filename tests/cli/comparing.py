"""The output of commands without what differs from run to run, so that two runs can be compared."""

import re

ELSEWHERE = {
    "worker start": "a worker needs the store",
    "serve": "a server needs the store",
    "demo": "makes a store of its own",
    "completion": "asks no store",
    "token local": "about a server of this host",
    "progress": "about a worker of this host",
    "login": "about a file of this user",
    "logout": "about a file of this user",
    "schedule preview": "asks no store",
    "schedule import": "asks no store",
}
"""Commands that are the same for every store, or do not work through a server."""

VARIABLE = (
    (r"\b[0-9a-f]{26}\b", "ID"),
    (r'("cursor":)"[^"]*"', r"\1CURSOR"),
    (r"qctl_\w{8}(_[\w-]{43})?", "SECRET"),
    (r"\b\d{4}-\d\d-\d\d[T ][\d:.]+Z?", "TIME"),
    (r"(sqlite|http)://[^\s\"]+", "URL"),
    (r"/tmp/\S+?/(one|two)\b", "HOME"),
    (r"\b\d+(\.\d+)?( ?(ms|s|m|h)\b)", "SPAN"),
    (r'("(oldest_due_seconds|seconds|age)":)[\d.]+', r"\1N"),
    (r"\b\w+@[\w.-]+|local:tester", "WHO"),
    (r'("sort_key": ?)\d+|("content": ?)"\w+"', r"\1\2KEY"),
    (r'("sha256": ?)"\w+"', r"\1SUM"),
    (r"\b[a-z2-7]{8}\b(?=$|,)", "SECRET_ID"),
    (r"(\w+_bytes +)\d+", r"\1N"),
    (r'("via":)"(cli|http)"', r"\1VIA"),
    (r"  +", "  "),
)


def lines(text: str) -> list[str]:
    """The lines of a text."""
    for pattern, word in VARIABLE:
        text = re.sub(pattern, word, text)
    return text.splitlines()
