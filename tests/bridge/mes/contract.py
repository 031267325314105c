"""``docs/mes-api.yaml`` as the tests use it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker

PATH = Path(__file__).parents[3] / "docs" / "mes-api.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
_FORMATS = FormatChecker()


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


def validator(schema: str) -> Draft202012Validator:
    """Checks against one of the document's schemas."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return Draft202012Validator(root, format_checker=_FORMATS)
