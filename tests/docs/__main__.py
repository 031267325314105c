"""Writes docs/address-space.md and docs/metrics.md: ``make docs``."""

from __future__ import annotations

import asyncio
import sys

from tests.docs import metrics
from tests.docs.address_space import DOCUMENT, document
from tests.docs.texts import TextsError

try:
    DOCUMENT.write_text(asyncio.run(document()), encoding="utf-8")
except TextsError as error:
    sys.exit(str(error))
metrics.DOCUMENT.write_text(metrics.document(), encoding="utf-8")
