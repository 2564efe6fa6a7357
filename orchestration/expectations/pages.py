"""Great Expectations' pages without external resources.

Its own templates load styles and scripts from seven hosts: without them the index stays
empty, and with them seven third parties learn of every reader. The content is rendered
as usual; the page layout, tables and folds are replaced.
"""

from typing import Any

from great_expectations.render.view.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, DictLoader

__all__ = ["PageView"]

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ page_title or "What is expected of the warehouse" }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 1.5rem auto;
  padding: 0 1rem; color: #1b2430; background: #fff; }
nav { border-bottom: 1px solid #ccd3dc; padding-bottom: .5rem; margin-bottom: 1rem; }
h5 { font-size: 1.15rem; margin: 1.5rem 0 .5rem; }
h6 { font-size: 1rem; margin: 1rem 0 .25rem; }
table { border-collapse: collapse; width: 100%; margin: .25rem 0 .75rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid #e3e8ee; }
th { background: #f4f6f9; }
code { white-space: pre-wrap; }
summary { cursor: pointer; }
.badge { background: #eef1f5; border-radius: .25rem; padding: 0 .3rem; }
.text-success { color: #19753c; }
.text-danger { color: #b3261e; }
i { font-style: normal; font-weight: bold; }
.fa-check-circle::before { content: "✓"; }
.fa-times::before { content: "✗"; }
.fa-exclamation-triangle::before { content: "!"; }
.cooltip .top { display: none; }
</style>
</head>
<body>
<nav>{% if renderer_type == "SiteIndexPageRenderer" -%}
<strong>What is expected of the warehouse</strong>
{%- else -%}
{% set up = 4 if "ValidationResults" in renderer_type else 1 -%}
<a href="{{ "../" * up }}index.html">All runs</a> · {{ page_title or
expectation_suite_name }}
{%- endif %}</nav>
{% for section in sections %}
{% set section_loop = loop -%}
{% include 'section.j2' %}
{% endfor %}
</body>
</html>
"""

_TABS = """\
{% for tab in content_block["tabs"] %}
<h5>{{ tab["tab_name"] }}</h5>
{{ tab["tab_content"] | render_content_block(content_block_id=content_block_id) }}
{% endfor %}
"""

# Skips duplicate columns: a run is named by its time, a table by its name.
_TABLE = """\
{% set columns = content_block["table_columns"]
  | rejectattr("field", "in", ["run_name", "batch_identifier"]) | list -%}
<table>
<tr>{% for column in columns %}<th>{{ column["title"] }}</th>{% endfor %}</tr>
{% for row in content_block["table_data"] | render_bootstrap_table_data %}
<tr>{% for column in columns %}<td>
{%- if column["field"] == "run_time" or columns | length == 1 -%}
<a href="{{ row["_table_row_link_path"] }}">{{ row[column["field"]] }}</a>
{%- else %}{{ row[column["field"]] }}{% endif -%}
</td>{% endfor %}</tr>
{% endfor %}
</table>
"""

_FOLD = """\
<details><summary>
{{- content_block.get("collapse_toggle_link", "More") | render_content_block -}}
</summary>
{% for block in content_block["collapse"] %}
{{ block | render_content_block(content_block_id=content_block_id) }}
{% endfor %}
</details>
"""


class PageView(DefaultJinjaPageView):
    """Any page of the site, self-contained."""

    def __init__(self, **styles: Any) -> None:
        super().__init__(**styles)
        own = {
            self._template: _PAGE,
            "tabs.j2": _TABS,
            "bootstrap_table.j2": _TABLE,
            "collapse.j2": _FOLD,
        }
        theirs = [] if self.env.loader is None else [self.env.loader]
        self.env.loader = ChoiceLoader([DictLoader(own), *theirs])
