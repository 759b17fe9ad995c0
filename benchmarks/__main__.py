"""`python -m benchmarks [NAME]`: see `make bench`."""

from __future__ import annotations

import sys

from benchmarks import anomalies, gate, gateway, guards, routing, verdicts, warehouse  # noqa: F401  they register their benchmarks
from benchmarks.figures import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else None))
