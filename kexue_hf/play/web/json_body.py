"""Reads the JSON object that a request carries."""

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from kexue_hf.errors import quoted
from kexue_hf.play.web.request_errors import RequestError

MOST_BYTES = 4096

_NAMES = {str: "a string", int: "a whole number"}


async def read_fields(request: Request, required: dict[str, type], optional: dict[str, type] | None = None) -> Any:
    """Return the object in the body, whose fields have the given types; optional ones may be missing.

    Raises:
        RequestError: the body is too large (413), not declared as JSON (415), or not such an object (400).
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise RequestError(415, "content_type", "expected the content type application/json")
    try:
        found = json.loads(await _read_body(request))
    except (ValueError, RecursionError):
        raise RequestError(400, "json", "expected a JSON object in UTF-8") from None
    if not isinstance(found, dict):
        raise RequestError(400, "json", f"expected a JSON object, got {type(found).__name__}")
    fields = {**required, **(optional or {})}
    for name in found:
        if name not in fields:
            raise RequestError(400, "field", f"unknown field {quoted(name)}; expected {', '.join(fields) or 'none'}")
    for name, kind in fields.items():
        if name in required and name not in found:
            raise RequestError(400, "field", f"{name} is missing; expected {_NAMES[kind]}")
        # bool is a subclass of int, so its type is compared instead.
        if name in found and type(found[name]) is not kind:
            raise RequestError(400, "field", f"{name}: expected {_NAMES[kind]}, got {quoted(json.dumps(found[name]))}")
    return found


async def _read_body(request: Request) -> bytes:
    """Return the body, and stop reading where it becomes too large."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise RequestError(413, "too_large", f"expected a body of at most {MOST_BYTES} bytes")
    except ClientDisconnect:
        raise RequestError(400, "disconnected", "the client disconnected within the request") from None
    return bytes(body)
