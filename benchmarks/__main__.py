"""Runs the benchmarks: `python -m benchmarks [name ...] [--quick] [--out docs/benchmarks.md]`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from benchmarks import calls, fits, growth, hessians, memory, nist, sparse, streams, tracing, values
from benchmarks.harness import Table, machine, progress

BENCHMARKS: dict[str, Callable[[bool], Iterator[Table]]] = {
    "calls": calls.run,
    "tracing": tracing.run,
    "pendulum": tracing.run_pendulum,
    "growth": growth.run,
    "values": values.run,
    "gradients": values.run_gradients,
    "hessians": hessians.run,
    "losses": hessians.run_gradients,
    "memory": memory.run,
    "sparse": sparse.run,
    "streams": streams.run,
    "nist": nist.run,
    "fits": fits.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller batches and graphs")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    text = f"# Benchmarks\n\n{machine()}\n"
    missed: list[str] = []
    print(text, flush=True)
    for name in options.names or BENCHMARKS:
        progress(f"== {name}")
        for table in BENCHMARKS[name](options.quick):
            print(table, flush=True)
            text += f"\n{table}"
            missed += table.missed
            if options.out is not None:  # after each one, so that an interrupted run leaves what it has
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(text, encoding="utf-8")
    progress(f"{len(missed)} bars missed" if missed else "every bar met")


if __name__ == "__main__":
    main()
