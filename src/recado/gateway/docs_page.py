"""`GET /docs`: the description of the routes as one HTML page that needs nothing from elsewhere."""

from __future__ import annotations

from functools import lru_cache

import jinja2

from recado.gateway.openapi import description

__all__ = ["docs_page"]


@lru_cache(maxsize=8)
def docs_page(topic: str, prefix: str = "") -> str:
    """The page; ``topic`` is the default one, ``prefix`` is where the routes are mounted."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE).render(api=description(topic, prefix), prefix=prefix)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ api.info.title }} {{ api.info.version }}: HTTP</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h2{margin-top:2.5rem;border-bottom:1px solid #ddd}code,pre{font:14px ui-monospace,monospace;background:#f4f4f2}
pre{padding:.8rem;overflow:auto}table{border-collapse:collapse;width:100%}td{padding:.3rem .6rem .3rem 0;
vertical-align:top;border-top:1px solid #eee}td:first-child{white-space:nowrap}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}code,pre{background:#2a2a2a}
h2{border-color:#444}td{border-color:#333}}
</style></head><body>
<h1>{{ api.info.title }}</h1><p>{{ api.info.description }}
The same for programs: <a href="{{ prefix }}/openapi.json">openapi.json</a>.</p>
{% for path, methods in api.paths.items() %}{% for method, call in methods.items() %}
<h2 id="{{ call.operationId }}"><code>{{ method.upper() }} {{ prefix }}{{ path }}</code></h2>
<p><strong>{{ call.summary }}.</strong> {{ call.description or "" }}</p>
{% if call.requestBody %}{% for type, content in call.requestBody.content.items() if content.example %}
<pre>curl -X POST http://localhost:5000{{ prefix }}{{ path }} -H "Content-Type: {{ type }}" \\
  -d '{{ content.example|tojson }}'</pre>
{% endfor %}{% endif %}
{% if call.parameters %}<table>{% for p in call.parameters %}
<tr><td><code>{{ p.name }}</code></td><td>{{ p.in }}</td><td>{{ p.description or "" }}</td></tr>{% endfor %}</table>
{% endif %}
<table>{% for status, response in call.responses.items() %}
<tr><td><code>{{ status }}</code></td><td>{{ response.description }}</td></tr>{% endfor %}</table>
{% endfor %}{% endfor %}
<h2>A record in JSON</h2><table>{% for name, field in api.components.schemas.Record.properties.items() %}
<tr><td><code>{{ name }}</code></td><td>{{ field.type or "any JSON" }}</td><td>{{ field.description or "" }}</td></tr>
{% endfor %}</table></body></html>
"""
