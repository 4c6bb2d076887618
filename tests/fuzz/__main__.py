"""Fuzzers as commands: `python -m tests.fuzz TARGET --seed N --seconds S`. The same seed gives the same inputs in the same order.

A target is a module of this folder with `fuzz(seed, seconds)`. The function feeds generated input to the real code until its time is over,
compares the output with an oracle that shares no code with it, and returns the number of inputs. A fault that it finds is an
AssertionError that shows the input.
"""

from __future__ import annotations

import argparse
import importlib
import random
from pathlib import Path

TARGETS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith(("_", "test_")))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seed", type=int, default=None, help="by chance, and printed, if none is given")
    parser.add_argument("--seconds", type=float, default=60.0, help="the time budget of each target")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    for target in TARGETS if options.target == "all" else [options.target]:
        print(f"{target}: seed {seed}, {options.seconds:g} s", flush=True)
        count = importlib.import_module(f"tests.fuzz.{target}").fuzz(seed, options.seconds)
        print(f"{target}: {count:,} inputs, nothing found", flush=True)


if __name__ == "__main__":
    main()
