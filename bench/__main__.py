"""`python -m bench [ROW…]`: measure, print, append to results/results.jsonl."""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.bulk import BULK
from bench.over_http import HTTP
from bench.rows import ROWS
from bench.schedules import SCHEDULES
from bench.transfer import TRANSFER
from queuectl import __version__

RESULTS = Path(__file__).parent / "results" / "results.jsonl"


def main() -> int:
    """Run the rows that are named, or all; exit 1 if a goal is missed."""
    options = _options()
    scaled = {name: partial(row, options.scale) for name, row in (BULK | HTTP).items()}
    rows = ROWS | TRANSFER | SCHEDULES | scaled
    names = [each for name in options.rows or rows for each in (HTTP if name == "http" else (name,))]
    unknown = [name for name in names if name not in rows]
    if unknown:
        sys.exit(f"there is no row {unknown[0]}; there are: http, {', '.join(rows)}")
    machine = _machine()
    print(f"queuectl {__version__}, {machine}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    found = []
    for name in names:
        row = rows[name]()._replace(name=name)
        found.append(row)
        print(
            f"{'ok    ' if row.met else 'MISSED'} {row.name:<16} {row.figure:<28} goal {row.goal:<16} {row.detail}",
            flush=True,
        )
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": machine,
    }
    if options.scale != 1.0:
        return 0
    with RESULTS.open("a") as file:
        file.write(json.dumps({**result, "rows": [row._asdict() for row in found]}) + "\n")
    return 0 if all(row.met for row in found) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all; http: those of the server")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="make the rows of the server and of operations smaller: their goals say nothing then",
    )
    return parser.parse_args()


def _machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.machine(),
    )
    return f"{os.cpu_count()} × {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
