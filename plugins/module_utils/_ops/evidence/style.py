# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a rule of CSS stays on one line
"""The look of the report: quiet, readable at night and on paper; WCAG 2.1 AA contrast in both schemes."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#17202a;--soft:#52606d;--line:#d9e0e6;--panel:#f5f7f9;
--pass:#0b6b3a;--pass-bg:#e8f5ed;--fail:#a3161f;--fail-bg:#fdeced;--unk:#7a4b00;--unk-bg:#fff3d9;
--lim:#1c4f8f;--lim-bg:#e9f1fb;--off:#52606d;--off-bg:#f0f3f5}
@media (prefers-color-scheme:dark){:root{--bg:#11161b;--ink:#e8edf1;--soft:#a3b0bb;--line:#303a43;--panel:#1a2127;
--pass:#62d394;--pass-bg:#12301f;--fail:#ff8f8f;--fail-bg:#3b1519;--unk:#f2bd5b;--unk-bg:#35270b;
--lim:#8cbcf5;--lim-bg:#13283f;--off:#a3b0bb;--off-bg:#1f272e}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Liberation Sans",Arial,sans-serif;font-variant-numeric:tabular-nums}
.defs{position:absolute}
main{max-width:64rem;margin:0 auto;padding:1.1rem 1.25rem 2.5rem}
main.second,main.second:target~main.first{display:none}
main.second:target{display:block}
h1,h2,h3,p,dl,dd{margin:0}
h2{font-size:1.05rem;margin-bottom:.5rem;letter-spacing:-.005em}
h3{font-size:.85rem;margin:.7rem 0 .25rem;color:var(--soft)}
section{margin-top:1.4rem}
code,.id{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.88em;
overflow-wrap:anywhere}
header{display:flex;justify-content:space-between;gap:1rem;align-items:flex-start;color:var(--soft);font-size:.9rem}
header strong{color:var(--ink)}
header strong::after{content:" ·";font-weight:400;color:var(--soft)}
a.switch{color:var(--ink);border:1px solid var(--line);border-radius:6px;padding:.3rem .7rem;text-decoration:none;white-space:nowrap}
a.switch:hover{background:var(--panel)}
a:focus-visible{outline:3px solid var(--lim);outline-offset:2px}
.k-passed{--c:var(--pass);--b:var(--pass-bg)}.k-failed{--c:var(--fail);--b:var(--fail-bg)}
.k-unknown{--c:var(--unk);--b:var(--unk-bg)}.k-limited{--c:var(--lim);--b:var(--lim-bg)}
.k-not_run{--c:var(--off);--b:var(--off-bg)}
.icon{width:1.05em;height:1.05em;flex:none;color:var(--c);vertical-align:-.16em}
.f{fill:var(--c,currentColor)}.s{fill:none;stroke:var(--bg);stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
.d{fill:var(--bg)}.o{fill:none;stroke:var(--c,currentColor);stroke-width:1.8}
.verdict{display:flex;gap:1.1rem;align-items:flex-start;background:var(--b);border-left:8px solid var(--c);
border-radius:4px;padding:1.15rem 1.35rem;margin-top:.9rem}
.verdict .icon{width:3.1rem;height:3.1rem;margin-top:.15rem}
h1{font-size:2.35rem;line-height:1.12;letter-spacing:.005em;color:var(--c)}
.cause{font-size:1.16rem;line-height:1.4;margin-top:.3rem;overflow-wrap:anywhere}
.original{color:var(--soft);font-size:.9rem;margin-top:.35rem;overflow-wrap:anywhere}
.tag{border:1px solid var(--line);border-radius:4px;padding:0 .35em;font-size:.82em;white-space:nowrap}
.risk{display:grid;grid-template-columns:repeat(4,1fr);gap:.75rem;margin-top:.85rem}
.tile{border:1px solid var(--line);border-radius:6px;padding:.7rem .85rem .75rem}
.tile.k-failed{border-color:var(--c)}
.tile h2{font-size:.83rem;font-weight:600;color:var(--soft);margin:0}
.value{font-size:1.42rem;font-weight:650;line-height:1.25;margin:.1rem 0 .2rem;letter-spacing:-.01em}
.note{font-size:.83rem;color:var(--soft);line-height:1.4}
.state{color:var(--c);font-weight:600}
.state .icon{margin-right:.35em}
.todo{border:1px solid var(--line);background:var(--panel);border-radius:6px;padding:.85rem 1.1rem .95rem;margin-top:.85rem}
.todo h2{margin-bottom:.25rem}.todo p+p{margin-top:.35rem}
.run{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:center}
.run{margin-top:.6rem!important}
.command{background:var(--bg);border:1px solid var(--line);border-radius:5px;padding:.28rem .65rem;font-size:.95rem;font-weight:600}
.command::before{content:"$ ";color:var(--soft);font-weight:400}
.book{font-size:.85rem;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.87rem;line-height:1.35}
th,td{text-align:left;vertical-align:top;padding:.4rem .6rem .4rem 0;border-top:1px solid var(--line)}
thead th{border-top:0;font-size:.78rem;color:var(--soft);font-weight:600;padding-top:0}
tbody th{font-weight:600}
.num{text-align:right;white-space:nowrap;padding-right:0}
.compact td.num,.compact th.num{padding-right:1.2rem}
.stage th,.check th{width:23%}.stage td:nth-child(2){width:27%}.stage td:nth-child(3){width:27%}
.stage th{display:table-cell}.stage th .icon,.check th .icon{float:left;margin:.13em .5em 0 0}
.stage th span,.check th span{display:block;margin-left:1.55em}
small{font-weight:400;color:var(--soft);font-size:.92em}
.k-failed small,.k-unknown small{color:var(--c);font-weight:600}
tr.k-failed,tr.k-unknown{background:var(--b)}
.compact tr.k-failed,.compact tr.k-unknown{background:none}
tr.stage.k-failed th,tr.stage.k-unknown th,tr.check.k-failed th,tr.check.k-unknown th{box-shadow:inset 3px 0 var(--c);padding-left:.6rem}
.checks tr.k-failed .num,.checks tr.k-unknown .num{padding-right:.5rem}
.check th{font-weight:400}.check th span{margin-left:2.4em}.check th .icon{margin-left:.85em}
.check td,.check th{border-top:1px dotted var(--line);font-size:.95em}
td{overflow-wrap:anywhere}.evidence{color:var(--soft)}.more{color:var(--soft);padding-left:2.4em}
tr.stage.k-not_run td{color:var(--soft)}
.chart{width:100%;max-width:40rem;height:auto;display:block}
.chart rect{fill:var(--c);opacity:.55}.chart rect.now{opacity:1}
.chart .k-failed rect,.chart .k-unknown rect{fill:var(--b);stroke:var(--c);stroke-width:1.5;stroke-dasharray:3 2;opacity:1}
.axis{stroke:var(--line)}.goal{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:5 4}
.quiet{color:var(--soft);font-size:.87rem}.small{font-size:.8rem;margin:.15rem 0 .6rem}
.compact{width:auto;min-width:60%}.compact td{padding:.22rem 1.2rem .22rem 0}.compact .current td{font-weight:600}
.provenance{border-top:1px solid var(--line);padding-top:1rem;font-size:.86rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.16rem 1.1rem}
dt{color:var(--soft)}dd{overflow-wrap:anywhere}.digests dd{font-size:.8rem}
.provenance .quiet{margin-top:.7rem}
@media screen and (max-width:48rem){
main{padding:.8rem .9rem 2rem}
.risk{grid-template-columns:repeat(2,1fr);gap:.5rem}.value{font-size:1.16rem}.tile{padding:.55rem .65rem}
.verdict{padding:.9rem .9rem;gap:.75rem}.verdict .icon{width:2rem;height:2rem}h1{font-size:1.7rem}.cause{font-size:1.03rem}
.checks thead{display:none}
.checks table,.checks tbody,.checks tr,.checks th,.checks td{display:block;width:auto!important;text-align:left}
.checks tr{border-top:1px solid var(--line);padding:.5rem .6rem .55rem 0}
.checks tr.check{padding-left:1rem}
.checks th,.checks td{border:0;padding:.06rem 0 .06rem 1.55em!important;white-space:normal;box-shadow:none!important}
.checks th{padding-left:0!important}
.checks tr.k-failed,.checks tr.k-unknown{box-shadow:inset 3px 0 var(--c);padding-left:.6rem}
.check th span{margin-left:1.55em}.check th .icon{margin-left:0}
.checks td[data-label]::before{content:attr(data-label) ": ";color:var(--soft)}
.checks td:empty,.checks .more::before{display:none}
.checks tr.stage.k-passed td:nth-child(2){display:none}
.trend{overflow-x:auto}.compact{min-width:100%}.compact td,.compact th{padding-right:.8rem!important;white-space:nowrap}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.35rem}
}
@media print{
@page{size:A4;margin:11mm 12mm}
:root{color-scheme:light;--bg:#fff;--ink:#000;--soft:#444;--line:#c4ccd3;--panel:#f5f7f9;--pass:#0b6b3a;--pass-bg:#e8f5ed;
--fail:#a3161f;--fail-bg:#fdeced;--unk:#7a4b00;--unk-bg:#fff3d9;--lim:#1c4f8f;--lim-bg:#e9f1fb;--off:#444;--off-bg:#f0f3f5}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
html{font-size:11.6px}body{font-size:1rem}main{max-width:none;padding:0}.switch{display:none}
section{margin-top:.75rem}.verdict,.tile,.todo,tr,.trend,.provenance{break-inside:avoid}h2{break-after:avoid}
th,td{padding-top:.2rem;padding-bottom:.2rem}
.stage.k-passed th br,.stage.k-not_run th br{display:none}
.chart{max-width:26rem}
}
"""
