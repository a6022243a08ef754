"""The page /docs: the OpenAPI document as HTML, with nothing that runs and nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .75rem; border-radius: .4rem; overflow-x: auto; }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .4rem .75rem; margin: .5rem 0; }
summary { cursor: pointer; } .method { display: inline-block; width: 3.5rem; font-weight: 600; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
"""
INTRODUCTION = "Every answer says revision, region and request id in its headers; a refusal is <code>{&quot;error&quot;: …}</code>."


def page(document: dict[str, Any]) -> str:
    """Return an OpenAPI document of ours as a page for people."""
    info = document["info"]
    title = escape(f"{info['title']}, version {info['version']}")
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>',
            f"<h1>{title}</h1><p>{escape(info['description'])}</p><p>{INTRODUCTION}</p>",
            *_columns(document["components"]["schemas"]["Row"]),
            *_paths(document["paths"]),
            *_schemas(document["components"]["schemas"]),
            "</body></html>\n",
        ]
    )


def _columns(row: dict[str, Any]) -> Iterator[str]:
    required = row.get("required", [])
    yield "<h2>Columns</h2><table><tr><th>name</th><th>allowed</th><th>may be left out</th></tr>"
    for name, schema in row["properties"].items():
        cells = (name, json.dumps(schema, ensure_ascii=False), "no" if name in required else "yes")
        yield f"<tr>{''.join(f'<td><code>{escape(cell)}</code></td>' for cell in cells)}</tr>"
    yield "</table>"


def _paths(paths: dict[str, Any]) -> Iterator[str]:
    protocol = ""
    for path, operations in paths.items():
        for method, operation in operations.items():
            if operation["tags"][0] != protocol:
                protocol = operation["tags"][0]
                yield f"<h2>{escape(protocol)}</h2>"
            yield f'<details><summary><span class="method">{method.upper()}</span> <code>{escape(path)}</code> '
            yield f"{escape(operation['summary'])}</summary>{''.join(_operation(operation))}</details>"


def _operation(operation: dict[str, Any]) -> Iterator[str]:
    asked = operation.get("requestBody", {}).get("content", {})
    if asked:
        yield f"<p>Takes {', '.join(_named(kind, content) for kind, content in asked.items())}.</p>"
    yield "<table><tr><th>status</th><th>meaning</th><th>content</th></tr>"
    for status, answer in operation["responses"].items():
        content = ", ".join(_named(kind, found) for kind, found in answer["content"].items())
        yield f"<tr><td>{status}</td><td>{escape(answer['description'])}</td><td>{content}</td></tr>"
    yield "</table>"


def _named(kind: str, content: dict[str, Any]) -> str:
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return f"<code>{escape(kind)}</code>" + (f' (<a href="#{escape(name)}">{escape(name)}</a>)' if name else "")


def _schemas(schemas: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Schemas</h2>"
    for name, schema in schemas.items():
        text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{text}</pre>'
