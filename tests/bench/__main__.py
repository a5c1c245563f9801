"""`uv run --group bench python -m tests.bench`: how does it compare with what a user would pick instead?

Designs run one after the other in each round, and a ratio is the median over the rounds. `--write` puts the table and
the plots into docs/performance.md. Under ten minutes.
"""

import argparse
import itertools
import time

from tests.bench import accepting, designs, growth, plots, promoting, storing, table, workbench


def main() -> None:
    """Print the table as it grows, and write it into the page on `--write`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of one run where designs are compared")
    parser.add_argument("--write", action="store_true", help="put table and plots into docs/performance.md")
    given = parser.parse_args()
    rounds, seconds = given.rounds, given.seconds
    began = time.monotonic()
    rows: list[table.Row] = []
    with workbench.rig() as rig, designs.redis() as redis:
        designs.make_tables(rig)
        machine = workbench.machine(rig.database)
        for row in itertools.chain(
            accepting.beside_others(rig, redis, rounds, seconds),
            storing.at_full_load(rig, redis, seconds * 12),
            storing.steadily(rig, seconds * 6),
            promoting.alone(rig),
            promoting.by_batch(rig),
            accepting.by_processes(rig, rounds, seconds),
            storing.by_processes(rig, seconds),
            growth.accepted(rounds, seconds),
        ):
            rows.append(row)
            print(f"{time.monotonic() - began:4.0f} s  ", "  ".join(row), flush=True)
    if given.write:
        table.write(rows, machine)
        plots.write()


if __name__ == "__main__":
    main()
