"""`python -m tests.bench.reports`: how many lines a second of a made-up report are imported, and in how much memory?

Each form is imported by a process of its own into an empty inbox, without a worker; `--rows 1000000` takes some minutes.
"""

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import workbench
from tests.bench.workbench import Rig
from tests.importing.reports import HEADER, TITLES, as_csv
from tests.support import peak_memory, xlsx

FORMAT = ["--time-zone", "Europe/Berlin", "--no-wait"]


def main() -> None:
    """Print a line for each form of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="lines of the report (default: 100,000)")
    parser.add_argument("--dry-run", action="store_true", help="read the file alone")
    given = parser.parse_args()
    more = ["--dry-run"] if given.dry_run else []
    with workbench.rig() as rig, tempfile.TemporaryDirectory() as directory:
        print(workbench.machine(rig.database), f"{given.rows:,} lines", sep=", ")
        for name, file in write(Path(directory), given.rows):
            workbench.empty(rig.database)
            seconds, processor, megabytes = command(rig, file, [*FORMAT, *more])
            print(
                f"{name}, {file.stat().st_size / 1e6:.0f} MB: {given.rows / seconds:,.0f} lines/s in {seconds:.0f} s "
                f"({given.rows / processor:,.0f} for each second of its processor), {megabytes} MB of memory"
            )
            file.unlink()


def write(directory: Path, rows: int) -> Iterator[tuple[str, Path]]:
    """Yield each form's name and file."""
    head = [*TITLES, HEADER]
    yield "XLSX, texts in its cells", xlsx.write(directory / "a.xlsx", itertools.chain(head, tickets(rows)))
    yield (
        "XLSX, texts in a part of their own",
        xlsx.write(directory / "b.xlsx", itertools.chain(head, tickets(rows)), is_shared=True),
    )
    (directory / "c.csv").write_bytes(as_csv(list(tickets(rows))))
    yield "CSV", directory / "c.csv"


def tickets(rows: int) -> Iterator[list[xlsx.Cell]]:
    """Yield tickets whose texts differ, of about 700 characters; the first date may be of July or of May."""
    for number in range(rows):
        yield [
            str(155_000_000_000_000_001 + 7 * number), f"VPN drops every hour in office {number}",
            f"Since Monday {number} the VPN drops every hour, on every laptop of the sales team. " * 5,
            f"Rolled the gateway's firmware back to 9.1.{number}, and reported it to the vendor. " * 3,
            "Closed", "High", f"{5 + number % 24:02}-07-2023 {number % 24:02}:{number % 60:02}", "Ann",
        ]  # fmt: skip


def command(rig: Rig, file: Path, more: list[str]) -> tuple[float, float, int]:
    """Run the import; return its seconds, those of its processor, and its most memory in MB."""
    arguments = ["import", "--tenant", rig.tenant.id, "--file", str(file), *more]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    megabytes, done = peak_memory.run(arguments, rig.environment({}))
    assert done.returncode == 0, done.stderr
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, processor, megabytes


if __name__ == "__main__":
    main()
