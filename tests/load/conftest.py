"""The load test uses the benchmark, which is not on the path of the tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
