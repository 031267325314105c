"""Writes docs/address-space.md, docs/configuration.md and docs/metrics.md: ``make docs``."""

from __future__ import annotations

import asyncio
import sys

from tests.docs import address_space, configuration, metrics
from tests.docs.texts import TextsError

try:
    metrics.DOCUMENT.write_text(metrics.document(), encoding="utf-8")
    configuration.DOCUMENT.write_text(configuration.document(), encoding="utf-8")
    address_space.DOCUMENT.write_text(asyncio.run(address_space.document()), encoding="utf-8")
except (TextsError, configuration.SampleError) as error:
    sys.exit(str(error))
