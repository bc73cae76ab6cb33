"""The long chaos: at least 200 kills.

make chaos
make chaos CHAOS="--seed 7 --kills 50"
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos.story import Story


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kills", type=int, default=200)
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    result = Story(chosen.seed, log=True).tell(chosen.kills)
    print(result.table())
    sys.exit(bool(result.lost or result.doubled))


if __name__ == "__main__":
    main()
