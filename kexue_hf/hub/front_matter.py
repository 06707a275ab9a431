"""The YAML between the `---` at the top of a card, edited without a change to the other lines."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

# Group 1 is empty, or ends with a line end.
FRONT_MATTER = re.compile(r"\A\s*---\r?\n(|.*?\r?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LINE_END = re.compile(r"\r?\n|\Z")
_BLANK = re.compile(r"\A(?:[ \t]*\r?\n)+")


def with_fields(text: str, fields: Mapping[str, Any]) -> str:
    """Return a card with these fields set. Other fields stay as they were written, and so do all comments outside of
    replaced values; a list that only grows keeps the comments in it.

    YAML has forms that this does not handle, like one `{...}` around all fields: read the result back.
    """
    front = FRONT_MATTER.match(text)
    if front is None:
        return f"---\n{_lines(fields)}\n---\n{_BLANK.sub('', text)}"
    lines = front[1]
    root = yaml.compose(lines, Loader=yaml.SafeLoader)
    there = {key.value: (key, value) for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    edits = sorted(_edit(lines, *there[name], fields[name]) for name in fields if name in there)
    for start, stop, new in reversed(edits):
        lines = lines[:start] + new + lines[stop:]
    if added := {name: value for name, value in fields.items() if name not in there}:
        lines = f"{lines}{_lines(added)}\n"
    if "\r\n" in front[0]:
        lines = re.sub(r"\r?\n", "\r\n", lines)
    return text[: front.start(1)] + lines + text[front.end(1) :]


def _edit(lines: str, key: Any, old: Any, new: Any) -> tuple[int, int, str]:
    """Return which characters to replace and by what, to give a field a new value."""
    stop = _end(lines, old)
    items = [item.value for item in old.value] if isinstance(old, yaml.SequenceNode) else []
    if not items or not isinstance(new, list) or new[: len(items)] != items:
        return key.start_mark.index, stop, _lines({key.value: new})
    more = [_lines([item]) for item in new[len(items) :]]
    last = _end(lines, old.value[-1])
    if old.flow_style:
        return last, last, "".join(f", {item.removeprefix('- ')}" for item in more)
    found = _LINE_END.search(lines, last)  # after a comment
    last = found.start() if found else len(lines)
    return last, last, "".join(f"\n{' ' * old.start_mark.column}{item}" for item in more)


def _end(lines: str, node: Any) -> int:
    """Return where a value ends; PyYAML counts the comments that follow a list to the list."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(lines, last[1] if isinstance(last, tuple) else last)
    return len(lines[: node.end_mark.index].rstrip())


def _lines(values: Any) -> str:
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True)).strip()


__all__ = ["FRONT_MATTER", "with_fields"]
