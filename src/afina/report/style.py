"""The page's style sheet. Colours are named once, for light and for dark; no meaning is carried by colour alone."""

STYLE = """
:root {
  --paper: #fbfaf7; --card: #ffffff; --ink: #22262b; --soft: #5f6670; --line: #e4e1da; --faint: #f1efe9;
  --base: #6a7078; --plus: #93406a; --other: #4f5a2e; --few: #8a5a00; --rag: #2f5fa8; --tuned: #0e6e63; --tuned-rag: #7a3f8f;
  --good: #1d6b3e; --bad: #a23a1f; --halo: #fbfaf7; --marked: #dcefe9;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, "Noto Serif", "DejaVu Serif", serif;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "Noto Sans Mono", "DejaVu Sans Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --card: #1b1f23; --ink: #e6e4df; --soft: #9ba2ab; --line: #2e3339; --faint: #202428;
    --base: #a8afb8; --plus: #e79ac0; --other: #bccb8c; --few: #d8ad55; --rag: #8fb4ee; --tuned: #62c8b6; --tuned-rag: #cf9fe0;
    --good: #7ccb98; --bad: #f09a80; --halo: #15181b; --marked: #1f3b37;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0 auto; padding: 3.5rem 1.5rem 4rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); font-variant-numeric: tabular-nums; }
h1, h2, .headline { font-family: var(--serif); font-weight: 500; }
h1 { margin: 0; font-size: 2.6rem; line-height: 1.15; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 1.25rem; font-size: 1.6rem; line-height: 1.25; }
h3 { margin: 2rem 0 .6rem; font-size: 1rem; font-weight: 600; }
p { margin: 0 0 1rem; }
section { margin-top: 3.5rem; padding-top: 2rem; border-top: 1px solid var(--line); }
code, pre { font-family: var(--mono); font-size: .875em; }
pre { margin: .75rem 0 0; padding: 1rem 1.25rem; background: var(--faint); border-radius: 6px; overflow-x: auto;
    line-height: 1.5; }
b { font-weight: 600; }
summary { cursor: pointer; color: var(--soft); }
summary:hover { color: var(--ink); }
:focus-visible { outline: 2px solid var(--tuned); outline-offset: 2px; border-radius: 2px; }
.brand { margin: 0 0 .25rem; color: var(--tuned); font-size: .85rem; font-weight: 600; letter-spacing: .08em; }
.headline { max-width: 40rem; margin: 1rem 0 2rem; font-size: 1.3rem; line-height: 1.45; }
.soft, .note, footer { color: var(--soft); }
.note { margin: 1rem 0 0; max-width: 46rem; font-size: .875rem; }
.digest { overflow-wrap: anywhere; }
.missing { color: var(--soft); }
.missing code { color: var(--ink); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin-top: 2rem; font-size: .9rem; }
nav a { color: var(--soft); text-decoration: none; border-bottom: 1px solid transparent; }
nav a:hover { color: var(--ink); border-color: currentColor; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.4rem, 1fr)); gap: 1.1rem 1.5rem; margin: 0; }
.facts div { display: flex; flex-direction: column; justify-content: flex-end; }
.facts dt { color: var(--soft); font-size: .82rem; }
.facts dd { margin: 0; font-size: 1.15rem; overflow-wrap: anywhere; }
.facts.small dd { font-size: 1rem; }

table { width: 100%; border-collapse: collapse; }
th, td { padding: .7rem .9rem .7rem 0; text-align: left; vertical-align: middle; border-bottom: 1px solid var(--line);
    font-weight: 400; }
th:last-child, td:last-child { padding-right: 0; }
thead th, thead td { padding-top: 0; color: var(--soft); font-size: .82rem; vertical-align: bottom; }
th b, th .soft, td b, td .soft { display: block; }
th .soft { font-size: .82rem; line-height: 1.4; }
.number { text-align: right; white-space: nowrap; }
td.number .soft { font-size: .82rem; }
.measures th[scope=row] { width: 27%; }
.measures .plot { width: 27%; min-width: 14rem; padding-left: 1rem; padding-right: 1.75rem; }
.scrolled { overflow-x: auto; }
.ladder th, .ladder td { padding-right: .75rem; }
.ladder tr > :last-child { padding-right: 0; }
.ladder thead .number { white-space: normal; }
.ladder .plot { width: 16%; min-width: 9rem; padding-left: .6rem; padding-right: 1rem; }
.measures .verdict { min-width: 6.5rem; max-width: 9rem; padding-left: .6rem; }
.measures.many th[scope=row] { width: 20%; }
.measures.many .plot { width: 22%; min-width: 11rem; padding-left: .5rem; padding-right: 1rem; }
.measures .told .word { white-space: normal; }
.ends { display: flex; justify-content: space-between; max-width: 22rem; margin: .1rem 0 0;
    padding: 0 .25rem; color: var(--soft); font-size: .72rem;
    line-height: 1; }
.ends span { white-space: nowrap; }
.word { white-space: nowrap; }
.verdict .word { display: flex; gap: .4em; white-space: normal; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.unclear { color: var(--soft); }

svg { display: block; overflow: visible; }
svg text { font-family: var(--sans); font-variant-numeric: tabular-nums; }
svg .halo text { paint-order: stroke; stroke: var(--halo); stroke-width: 4px; stroke-linejoin: round; }
.estimates { width: 100%; max-width: 22rem; height: auto; }
.key .base { --mark: var(--base); }
.key .plus { --mark: var(--plus); }
.key .few { --mark: var(--few); }
.key .other { --mark: var(--other); }
.key .rag { --mark: var(--rag); }
.key .tuned { --mark: var(--tuned); }
.key .tuned-rag { --mark: var(--tuned-rag); }
.key line { stroke: var(--mark); stroke-width: 2; }
.key circle, .key path { fill: var(--paper); stroke: var(--mark); stroke-width: 2; }
.key .tuned path, .key .tuned-rag path { fill: var(--mark); stroke: none; }
.key { display: inline-block; flex: none; }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .6rem; margin: 0 0 1.25rem; font-size: .9rem;
    color: var(--soft); }
.legend span { margin-right: 1rem; }
.legend .who { display: inline-flex; align-items: center; gap: .6rem; }
.drawn { margin: 0 0 2rem; }
.drawn.river .wide { max-width: 35rem; }
.drawn svg { width: 100%; height: auto; }
.drawn .narrow { display: none; }
.drawn .legend span { display: inline-flex; align-items: center; gap: .5rem; }
.swatch { display: inline-block; flex: none; width: 1.4rem; height: 0; border-top: 1.5px solid var(--base); }
.swatch.validation { border-top: 2.5px solid var(--tuned); }
.swatch.best { width: .8rem; height: .8rem; border: 2px solid var(--tuned); border-radius: 50%; }

.card { margin: 0 0 1.25rem; padding: 1.1rem 1.35rem 1.25rem; background: var(--card); border: 1px solid var(--line);
    border-radius: 8px; }
.card .key circle, .card .key .plus path, .card .key .other path, .card .key .few path,
.card .key .rag path { fill: var(--card); }
.card-head { display: flex; align-items: baseline; gap: .75rem; color: var(--soft); font-size: .82rem;
    overflow-wrap: anywhere; }
.question { margin: .5rem 0 1.1rem; font-family: var(--serif); font-size: 1.12rem; line-height: 1.45;
    white-space: pre-wrap; overflow-wrap: anywhere; }
.columns { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 1.5rem; }
.columns.many { grid-auto-flow: row; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); }
.answer { display: flex; flex-direction: column; }
.answer h3 { display: flex; align-items: center; gap: .45rem; margin: 0 0 .35rem; color: var(--soft);
    font-size: .82rem; font-weight: 400; }
.answer .text { max-height: 18rem; overflow: auto; font-size: .95rem; line-height: 1.5; white-space: pre-wrap;
    overflow-wrap: anywhere; }
.marks { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: auto 0 0; padding-top: .5rem; font-size: .82rem; }
.reasons { grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
.reasons div { justify-content: flex-start; }
.rule { overflow-wrap: anywhere; }
.sortable > input { position: absolute; opacity: 0; }
.sortable > label { display: inline-block; margin: 0 .4rem .6rem 0; padding: .25rem .7rem; border: 1px solid var(--line);
    border-radius: 6px; color: var(--soft); font-size: .85rem; cursor: pointer; }
.sortable > input:checked + label { border-color: var(--tuned); color: var(--ink); }
.sortable > input:focus-visible + label { outline: 2px solid var(--tuned); outline-offset: 2px; }
.cards { display: flex; flex-direction: column; margin-top: .6rem; }
#order-0:checked ~ .cards > .card { order: var(--o0); }
#order-1:checked ~ .cards > .card { order: var(--o1); }
#order-2:checked ~ .cards > .card { order: var(--o2); }
#order-3:checked ~ .cards > .card { order: var(--o3); }
#order-4:checked ~ .cards > .card { order: var(--o4); }
#order-5:checked ~ .cards > .card { order: var(--o5); }
#order-6:checked ~ .cards > .card { order: var(--o6); }
#order-7:checked ~ .cards > .card { order: var(--o7); }
#order-8:checked ~ .cards > .card { order: var(--o8); }
#order-9:checked ~ .cards > .card { order: var(--o9); }
#order-10:checked ~ .cards > .card { order: var(--o10); }
#order-11:checked ~ .cards > .card { order: var(--o11); }
.earlier { margin-top: .5rem; font-size: .9rem; }
.earlier dl { display: grid; grid-template-columns: 5.5rem 1fr; margin: .5rem 0 0; color: var(--soft); }
.earlier dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.more > summary { margin-bottom: 1.25rem; }
.refused { margin: .5rem 0; }
.refused b { color: var(--ink); }
.refused ul { margin: .5rem 0 1rem; padding-left: 1.2rem; font-size: .9rem; }
.refused li { overflow-wrap: anywhere; }
.refused code { margin-right: .5rem; color: var(--soft); }
.stages th[scope=row] { width: 55%; }
.bars { width: 16%; }
.bar { display: block; min-width: 2px; height: .5rem; background: var(--tuned); opacity: .55; border-radius: 2px; }
.files th, .files td { padding-top: .4rem; padding-bottom: .4rem; }
.files code { overflow-wrap: anywhere; }
.recipe { margin-top: 2rem; }
.commands { display: grid; grid-template-columns: max-content 1fr; gap: .6rem 2rem; margin: 0; }
.commands dt code { padding: .2rem .55rem; background: var(--faint); border-radius: 4px; }
.commands dd { margin: 0; color: var(--soft); }
.steps { margin: 0; padding-left: 1.3rem; max-width: 46rem; font-size: 1.05rem; }
.steps li { margin-bottom: .5rem; padding-left: .3rem; }
.steps li::marker { color: var(--tuned); font-weight: 600; }
.steps code { padding: .1rem .4rem; background: var(--faint); border-radius: 4px; }
.sides th code { overflow-wrap: anywhere; }
.told { display: block; font-size: .82rem; }
th details { margin-top: .3rem; font-size: .82rem; }
th details .text { margin-top: .4rem; padding: .6rem .8rem; max-height: 14rem; overflow: auto; background: var(--faint);
    border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }
.bars-of th[scope=row] { width: 30%; }
.bars-of .bars { width: 50%; }
.bars-of .bar { height: .6rem; }
.kinds { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.25rem; }
.kind { margin: 0; }
.kind h3 { margin: 0 0 .6rem; line-height: 1.4; overflow-wrap: anywhere; }
.kind .amount { display: grid; grid-template-columns: max-content 1fr; gap: .3rem .6rem; margin: 0 0 .8rem; }
.kind .bar { grid-column: 1 / -1; }
.kind ul { margin: 0; padding: 0; list-style: none; font-size: .9rem; line-height: 1.45; color: var(--soft); }
.kind li { padding: .45rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
.severity { display: flex; align-items: center; gap: .3rem; }
.sign { display: inline-grid; place-content: center; width: 1.25rem; height: 1.25rem; border: 1.5px solid currentColor;
    border-radius: 50%; font-size: .75rem; line-height: 1; }
.severity.error .sign { color: var(--bad); }
.severity.warning .sign { color: var(--tuned); }
.severity.info .sign { color: var(--soft); }
.finding { margin: 0; border-top: 1px solid var(--line); }
.finding:last-of-type { border-bottom: 1px solid var(--line); }
.finding > summary { display: grid; grid-template-columns: 1rem 11rem 4rem 5.5rem 1fr; gap: .2rem .75rem; padding: .6rem 0;
    align-items: baseline; list-style: none; }
.finding > summary::-webkit-details-marker { display: none; }
.finding > summary::before { content: "▸"; }
.finding[open] > summary::before { content: "▾"; }
.finding .amount { color: var(--ink); text-align: right; }
.finding ul { padding-left: 1.75rem; list-style: none; }
.finding li { margin-bottom: .5rem; }
.finding .note { margin: 0 0 1rem 1.75rem; }
.excerpt { display: block; margin-top: .15rem; padding-left: .75rem; border-left: 2px solid var(--line); color: var(--soft);
    white-space: pre-wrap; }
.twins .card-head { margin: 0 0 .6rem; }
.twins h3 code { overflow-wrap: anywhere; }
mark { background: none; color: inherit; }
.twins mark { background: var(--marked); border-bottom: 2px solid var(--tuned); }
.rendered { line-height: 1.65; }
.card > .rendered { margin-top: .75rem; max-height: 26rem; overflow: auto; font: .82rem/1.65 var(--mono);
    white-space: pre-wrap; overflow-wrap: anywhere; }
.read { color: var(--soft); }
.learned { background: var(--marked); color: var(--ink); border-radius: 2px; box-decoration-break: clone;
    -webkit-box-decoration-break: clone; padding: .1em 0; }
.learned::before, .learned::after { color: var(--tuned); font-weight: 700; }
.learned::before { content: "⟦"; }
.learned::after { content: "⟧"; }
.legend .learned, .legend .read { margin-right: .5rem; font-family: var(--mono); font-size: .82rem; }
footer { margin-top: 4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); font-size: .82rem; }

@media (max-width: 46rem) {
  body { padding: 2rem 1.1rem 3rem; }
  h1 { font-size: 2rem; }
  .headline { font-size: 1.15rem; }
  section { margin-top: 2.5rem; padding-top: 1.5rem; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .drawn .wide { display: none; }
  .drawn .narrow { display: block; }
  .measures thead, .sides thead, .stages thead { display: none; }
  .measures tr, .sides tr, .stages tr { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr));
    column-gap: .75rem; padding: 1rem 0; border-bottom: 1px solid var(--line); }
  .measures th, .measures td, .sides th, .sides td, .stages th, .stages td { width: auto !important; padding: 0;
    border: 0; text-align: left; }
  .measures.many tr, .four tr { grid-template-columns: repeat(2, minmax(0, 1fr)); row-gap: .4rem; }
  .measures th, .measures .plot, .measures .verdict, .sides th, .stages th, .stages .bars { grid-column: 1 / -1; }
  .measures .plot { min-width: 0; padding: .6rem 1rem .8rem; }
  .measures .verdict { max-width: none; margin-top: .5rem; padding-left: 0; }
  .sides th, .stages th { margin-bottom: .5rem; }
  .ladder .plot { grid-column: 1 / -1; min-width: 0; padding: 0 1rem .6rem; }
  .stages .bars { margin-bottom: .4rem; }
  td[data-title]::before { content: attr(data-title); display: block; color: var(--soft); font-size: .78rem;
    white-space: normal; }
  .measures .number .soft, .measures .number .word { white-space: normal; }
  .stages td:last-child { grid-column: span 2; }
  .bars-of th[scope=row] { width: 35%; }
  .bars-of .bars { width: 40%; }
  .finding > summary { grid-template-columns: 1rem 1fr max-content; }
  .finding .done, .finding .why { grid-column: 2 / -1; }
  .finding ul { padding-left: 1rem; }
  .finding .note { margin-left: 1rem; }
  .kinds { grid-template-columns: 1fr; }
  .columns { grid-auto-flow: row; gap: 1.1rem; }
  .card { padding: 1rem; }
  .earlier dl, .commands { grid-template-columns: 1fr; gap: .15rem; }
  .commands dd { margin-bottom: .8rem; }
}
@media print {
  :root { --paper: #ffffff; --halo: #ffffff; }
  body { max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; }
  nav { display: none; }
  .answer .text, .card > .rendered { max-height: none; }
  .learned, .twins mark, .bar { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .card, tr, figure { break-inside: avoid; }
}
"""
