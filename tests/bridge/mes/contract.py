"""``docs/mes-api.yaml`` as the tests use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
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


def breaches(method: str, path: str, headers: Mapping[str, str], body: bytes) -> list[str]:
    """What of a request does not keep to the document; `path` begins behind the url of the MES, the names of
    `headers` are in lower case."""
    operation = _operation(method, path)
    if operation is None:
        return [f"{method} {path}: there is no such operation"]
    found = []
    if headers.get("content-type") != "application/json":
        found.append("the body is not said to be JSON")
    if not re.fullmatch(r"Token \S+", headers.get("authorization", "")):
        found.append("there is no token")
    key = DOCUMENT["components"]["parameters"]["IdempotencyKey"]
    found += _against(key["schema"], headers.get(key["name"].lower()))
    found += _against(operation["requestBody"]["content"]["application/json"]["schema"], json.loads(body))
    return [f"{method} {path}: {one}" for one in found]


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, operations in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            found: dict[str, Any] | None = operations.get(method.lower())
            return found
    return None


def _against(schema: dict[str, Any], value: object) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    found = Draft202012Validator(whole, format_checker=_FORMATS).iter_errors(value)
    return [error.message for error in found]
