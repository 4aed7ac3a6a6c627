"""The load test stands beside the benchmark, which the tests' path does not hold."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
