"""``make soak``: the siege in full. Prints what is done and the report, which also goes to the file named."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from tests.e2e.faults.siege import FULL, SHORT, Siege


def main() -> int:
    """0 when nothing was lost, doubled, shifted or out of order."""
    logging.getLogger("tests.e2e.faults").setLevel(logging.ERROR)  # the plugins complain, as they should
    plan = SHORT if "--short" in sys.argv else FULL
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
