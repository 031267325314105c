"""``make soak``: the siege in full. Prints what is done and the report, which also goes to the file named."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.e2e.faults.siege import FULL, SHORT, Siege


def main() -> int:
    """0 when nothing was lost, doubled, shifted or out of order."""
    logging.getLogger("tests.e2e.faults").setLevel(logging.ERROR)  # the plugins complain, as they should
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.faults")
    parser.add_argument("--short", action="store_true", help="as in `make test`")
    parser.add_argument("--seed", type=int, default=FULL.seed, help="another order of things")
    given = parser.parse_args()
    plan = replace(SHORT if given.short else FULL, seed=given.seed)
    target = Path("build") / "soak-report.txt"
    with tempfile.TemporaryDirectory(prefix="mesbridge-soak-") as folder:
        siege = Siege(Path(folder), plan, lambda text: print(text, flush=True))
        report = siege.run()
    text = report.text(siege.circumstances())
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    print(f"\n{text}\n{target}")
    return 0 if report.sound else 1


sys.exit(main())
