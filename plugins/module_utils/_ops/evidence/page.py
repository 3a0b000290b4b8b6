# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - markup is not wrapped where a line break would be seen
"""The page of the report: one Jinja template, no script, nothing from outside.

Both languages stand in it. The second one comes first in the source and is hidden until its anchor is
the target of the address (``report.html#en``); then it hides the other. So the switch is a link that
works without script, can be sent to somebody, and obeys the browser's back button.
"""

from __future__ import annotations

PAGE = """\
<!doctype html>
<html lang="{{ views[0].language }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="evidence-sha256" content="{{ evidence_sha256 }}">
<title>{{ views[0].word }} · {{ views[0].title }} · {{ views[0].drill_id }}</title>
<style>{{ style|safe }}</style>
</head>
<body>
<svg width="0" height="0" aria-hidden="true" focusable="false" class="defs">
<symbol id="i-passed" viewBox="0 0 20 20"><circle cx="10" cy="10" r="9.2" class="f"/>
<path d="M5.6 10.4l3 3 5.8-6.4" class="s"/></symbol>
<symbol id="i-failed" viewBox="0 0 20 20"><path d="M6.2.8h7.6l5.4 5.4v7.6l-5.4 5.4H6.2L.8 13.8V6.2z" class="f"/>
<path d="M6.7 6.7l6.6 6.6m0-6.6l-6.6 6.6" class="s"/></symbol>
<symbol id="i-unknown" viewBox="0 0 20 20"><path d="M10 .5l9.5 9.5-9.5 9.5L.5 10z" class="f"/>
<path d="M7.4 7.9c0-3.3 5.2-3.3 5.2-.2 0 2-2.6 1.9-2.6 3.9" class="s"/><circle cx="10" cy="14.6" r="1.2" class="d"/></symbol>
<symbol id="i-limited" viewBox="0 0 20 20"><circle cx="10" cy="10" r="8.6" class="o"/>
<path d="M10 1.4a8.6 8.6 0 0 1 0 17.2z" class="f"/></symbol>
<symbol id="i-not_run" viewBox="0 0 20 20"><circle cx="10" cy="10" r="8.4" class="o"/>
<path d="M6 10h8" class="o"/></symbol>
</svg>
{%- macro icon(kind) %}<svg class="icon" aria-hidden="true"><use href="#i-{{ kind }}"/></svg>{% endmacro %}
{%- macro chart(v) %}
{%- set bars = v.drills %}
{%- set top = peak(bars) %}
{%- set step = 640 / ([bars|length, 8]|max) %}
{%- set line = 78 - 66 * v.objective_seconds / top if v.objective_seconds <= top else none %}
<svg class="chart" viewBox="0 0 640 96" role="img" aria-label="{{ v.words.trend_label }}">
<line x1="0" y1="78.5" x2="640" y2="78.5" class="axis"/>
{%- if line is not none %}<line x1="0" y1="{{ '%.1f'|format(line) }}" x2="640" y2="{{ '%.1f'|format(line) }}" class="goal"/>{% endif %}
{%- for d in bars %}
{%- set h = [66 * (d.seconds or 0) / top, 2]|max %}
{%- set x = step * loop.index0 + step * 0.2 %}
<g class="k-{{ d.kind }}"><title>{{ d.date }}: {{ d.word }}, RTO {{ d.rto }}</title>
<rect x="{{ '%.1f'|format(x) }}" y="{{ '%.1f'|format(78 - h) }}" width="{{ '%.1f'|format(step * 0.6) }}" height="{{ '%.1f'|format(h) }}" rx="1.5"\
{% if d.current %} class="now"{% endif %}/>
<use href="#i-{{ d.kind }}" x="{{ '%.1f'|format(x + step * 0.3 - 6) }}" y="83" width="12" height="12"/></g>
{%- endfor %}
</svg>
{%- endmacro %}
{%- for v in views|reverse %}
{%- set w = v.words %}
<main id="{{ v.language }}" lang="{{ v.language }}" class="{{ 'first' if loop.last else 'second' }}">
<header>
<p class="what"><strong>{{ v.title }}</strong> {{ v.context }}<br><span class="id">{{ v.drill_id }}</span></p>
<a class="switch" href="#{{ others[v.language] }}" lang="{{ others[v.language] }}" hreflang="{{ others[v.language] }}">{{ w.other_language }}</a>
</header>

<section class="verdict k-{{ v.kind }}">
{{ icon(v.kind) }}
<div><h1>{{ v.word }}</h1>
<p class="cause">{{ v.sentence }}</p>
{%- if v.original and v.language != 'en' %}
<p class="original"><span lang="en">{{ v.original }}</span> <span class="tag">{{ w.original }}</span></p>
{%- elif v.original and v.original != v.sentence %}
<p class="original">{{ v.original }}</p>
{%- endif %}</div>
</section>

<section class="risk" aria-label="{{ w.at_risk }}">
{%- for t in v.tiles %}
<div class="tile{% if t.kind %} k-{{ t.kind }}{% endif %}">
<h2>{{ t.label }}</h2>
<p class="value">{{ t.value }}</p>
<p class="note">{% if t.state %}<span class="state">{{ icon(t.kind) }}{{ t.state }}</span><br>{% endif %}{{ t.note }}</p>
</div>
{%- endfor %}
</section>

<section class="todo">
<h2>{{ w.todo }}</h2>
{%- for line in v.todo %}
<p>{{ line }}</p>
{%- endfor %}
{%- if v.advice %}
<p class="original"><span lang="en">{{ v.advice }}</span>{% if w.original %} <span class="tag">{{ w.original }}</span>{% endif %}</p>
{%- endif %}
{%- if v.command %}
<p class="run"><code class="command">{{ v.command }}</code> <span class="book">{{ w.runbook }}: <code>{{ v.runbook }}</code></span></p>
{%- endif %}
</section>

<section class="checks">
<h2>{{ w.checks }}</h2>
<table>
<thead><tr><th scope="col">{{ w.col_stage }}</th><th scope="col">{{ w.col_expected }}</th>\
<th scope="col">{{ w.col_observed }}</th><th scope="col">{{ w.col_evidence }}</th><th scope="col" class="num">{{ w.col_time }}</th></tr></thead>
<tbody>
{%- for s in v.stages %}
<tr class="stage k-{{ s.kind }}">
<th scope="row">{{ icon(s.kind) }}<span>{{ s.label }}<br> <small>{{ s.word }}{% if s.optional %}, {{ w.optional }}{% endif %}</small></span></th>
{%- if s.kind == 'not_run' %}
<td colspan="4"{% if s.foreign %} lang="en"{% endif %}>{{ s.observed }}</td>
{%- else %}
<td data-label="{{ w.col_expected }}">{{ s.expected }}</td>
<td data-label="{{ w.col_observed }}"{% if s.foreign %} lang="en"{% endif %}>{{ s.observed }}</td>
<td data-label="{{ w.col_evidence }}" class="evidence">{{ s.evidence }}</td>
<td data-label="{{ w.col_time }}" class="num"{% if s.exact %} title="{{ s.exact }}"{% endif %}>{{ s.time }}</td>
{%- endif %}
</tr>
{%- for c in s.problems %}
<tr class="check k-{{ c.kind }}">
<th scope="row">{{ icon(c.kind) }}<span><code>{{ c.name }}</code><br><small>{{ c.word }}</small></span></th>
<td data-label="{{ w.col_expected }}"><code>{{ c.expected }}</code></td>
<td data-label="{{ w.col_observed }}"><code>{{ c.observed }}</code></td>
<td data-label="{{ w.col_evidence }}" colspan="2" class="evidence" lang="en">{{ c.detail }}</td>
</tr>
{%- endfor %}
{%- if s.more %}<tr class="check"><td colspan="5" class="more">{{ s.more }}</td></tr>{% endif %}
{%- endfor %}
</tbody>
</table>
</section>

<section class="trend">
<h2>{{ w.trend }}</h2>
{%- if v.drills|length < 2 %}
<p class="quiet">{{ w.first_drill }}</p>
{%- else %}
{{ chart(v) }}
<p class="quiet small">{{ w.trend_label }} · {{ v.objective }}{% if v.objective_seconds <= peak(v.drills) %} (- - -){% endif %}</p>
<table class="compact">
<thead><tr><th scope="col">{{ w.col_date }}</th><th scope="col">{{ w.col_verdict }}</th><th scope="col" class="num">RTO</th>\
<th scope="col" class="num">RPO</th><th scope="col">{{ w.col_backup }}</th></tr></thead>
<tbody>
{%- for d in (v.drills|reverse|list)[:rows] %}
<tr class="k-{{ d.kind }}{% if d.current %} current{% endif %}"><td>{{ d.date }}</td><td class="state">{{ icon(d.kind) }}{{ d.word }}</td>\
<td class="num">{{ d.rto }}</td><td class="num">{{ d.rpo }}</td><td class="id">{{ d.backup }}</td></tr>
{%- endfor %}
</tbody>
</table>
{%- endif %}
</section>

<section class="provenance">
<h2>{{ w.provenance }}</h2>
<dl>
{%- for label, value in v.facts %}
<dt>{{ label }}</dt><dd>{{ value }}</dd>
{%- endfor %}
</dl>
<h3>{{ w.subjects }} (SHA-256)</h3>
<dl class="digests">
{%- for label, value in v.digests %}
<dt>{{ label }}</dt><dd class="id">{{ value }}</dd>
{%- endfor %}
</dl>
<p class="quiet">{{ w.verify }}: <code>pharma-ops evidence verify . --public-key evidence-signing.pub</code></p>
</section>
</main>
{%- endfor %}
</body>
</html>
"""
