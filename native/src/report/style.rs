//! The style sheet of the report: light and dark, screen and paper.

/// The style sheet.
pub(super) const STYLE: &str = "
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --soft: #5b6470; --rule: #dde1e6;
  --accent: #2a6f97; --accent-soft: #9cc4da; --second: #b5651d; --mark: #c2255c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --panel: #1d2126; --ink: #e7eaee; --soft: #a0a9b4; --rule: #343a42;
    --accent: #7fbbdc; --accent-soft: #3d6e88; --second: #e0a15e; --mark: #f06595;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 40px 28px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 48px 0 6px; padding-top: 18px; border-top: 1px solid var(--rule); }
h3 { font-size: 16px; margin: 26px 0 8px; }
p { margin: 6px 0 12px; max-width: 78ch; }
.lead { font-size: 17px; color: var(--soft); }
.soft { color: var(--soft); font-size: 14px; }
.flag {
  display: inline-block; font-size: 13px; padding: 2px 10px; border: 1px solid var(--rule);
  border-radius: 999px; color: var(--soft); background: var(--panel);
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin: 22px 0 4px; }
.tile { background: var(--panel); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 26px; line-height: 1.2; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: 14px; color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; margin: 10px 0; }
caption { text-align: left; color: var(--soft); font-size: 14px; padding-bottom: 6px; }
th, td { padding: 6px 12px; text-align: left; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
thead th, thead td { font-weight: 600; border-bottom: 2px solid var(--rule); white-space: nowrap; }
th[scope=row] { font-weight: 400; }
th[scope=rowgroup] { font-weight: 600; vertical-align: top; }
td.num, th.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.model th[scope=row], tr.model td { font-weight: 600; }
tr.mean th[scope=row], tr.mean td { color: var(--soft); }
td.bar { width: 26%; min-width: 120px; }
.facts { table-layout: fixed; }
.facts th[scope=row] { width: 30%; color: var(--soft); overflow-wrap: anywhere; }
.facts td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.digest { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 22px 16px; margin: 12px 0; }
figure { margin: 0; }
figcaption { font-size: 14px; color: var(--soft); }
.gene h4 { margin: 0 0 6px; font-size: 15px; }
.gene h4 i { display: block; font-style: normal; font-weight: 400; color: var(--soft); font-variant-numeric: tabular-nums; }
.gene figure + figure { margin-top: 8px; }
.gene img { display: block; width: 100%; border: 1px solid var(--rule); border-radius: 6px; background: #fff; }
.gene figcaption { margin: 0 0 2px; font-size: 13px; }
.legend { display: block; width: 100%; height: auto; margin-top: 6px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr)); gap: 20px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif; }
svg text.strong { fill: var(--ink); }
svg .axis { stroke: var(--rule); stroke-width: 1; }
svg .grid { stroke: var(--rule); stroke-width: 1; stroke-dasharray: 2 4; }
svg .bar { fill: var(--accent); }
svg .bar.low { fill: var(--accent-soft); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .train { stroke: var(--second); stroke-dasharray: 6 4; }
svg .valid { stroke: var(--accent); }
svg .dot { fill: var(--accent); }
svg .ref { stroke: var(--mark); stroke-width: 1.5; }
svg .ref.dashed { stroke-dasharray: 5 4; stroke: var(--ink); }
svg text.ref { fill: var(--mark); stroke: none; }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--accent); font-size: 15px; }
footer { margin-top: 48px; padding-top: 14px; border-top: 1px solid var(--rule); color: var(--soft); font-size: 14px; }
@media print {
  :root {
    --paper: #ffffff; --panel: #ffffff; --ink: #000000; --soft: #444444; --rule: #cccccc;
    --accent: #2a6f97; --accent-soft: #9cc4da; --second: #b5651d; --mark: #c2255c;
  }
  body { font-size: 11pt; }
  main { padding: 0; max-width: none; }
  h2 { break-after: avoid; }
  figure, .gene, .tile, tr { break-inside: avoid; }
  .maps { grid-template-columns: repeat(5, 1fr); }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
";
