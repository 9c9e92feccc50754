"""The style of a report, for light and dark, wide and narrow."""

from __future__ import annotations

from dupmae_toolkit.evaluation.report.svg import PALETTE, STYLE, WIDTH

CSS = (
    PALETTE
    + STYLE
    + f"""
*{{box-sizing:border-box}}
body{{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif;
overflow-wrap:anywhere}}
main{{max-width:68rem;margin:0 auto;padding:1rem}}
h1{{font-size:1.6rem;line-height:1.25}}
h2{{font-size:1.35rem;border-top:2px solid var(--rule);padding-top:1.2rem;margin-top:2.5rem}}
h3{{font-size:1.15rem;margin-top:2.2rem}}
h4{{font-size:1rem;margin:.2rem 0 .6rem}}
small,.faint,caption,figcaption{{color:var(--faint)}}
.box{{overflow-x:auto;max-width:100%}}
.box:focus-visible{{outline:2px solid var(--s0)}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4rem 0 1.2rem}}
caption,figcaption{{text-align:left;font-size:.9rem;padding:.3rem 0}}
caption span{{display:inline-block;position:sticky;left:0;
max-width:calc(min(68rem,100vw) - 2.6rem)}}
th,td{{padding:.28rem .55rem;border-bottom:1px solid var(--rule);text-align:right;
vertical-align:top;overflow-wrap:normal;white-space:nowrap}}
thead th{{border-bottom:2px solid var(--ink);vertical-align:bottom}}
th[scope=row],.text{{text-align:left}}
td.text,th[scope=row]{{white-space:normal;overflow-wrap:break-word;max-width:22rem}}
.long{{min-width:14rem}}
th[scope=row]{{font-weight:400}}
figure{{margin:1rem 0}}
svg{{display:block;width:100%;min-width:{WIDTH * 4 // 5}px;max-width:{WIDTH + 120}px;height:auto}}
.topic{{border:1px solid var(--rule);border-radius:.4rem;padding:.8rem;margin:1rem 0}}
.good{{color:var(--s2)}}
.title{{display:inline-block;max-width:18rem}}
summary{{cursor:pointer;padding:.2rem 0}}
blockquote{{margin:.5rem 0;padding-left:.8rem;border-left:3px solid var(--rule)}}
mark{{background:none;color:inherit;font-weight:700;border-bottom:2px solid var(--s1)}}
code{{font:13px/1.5 ui-monospace,monospace}}
pre{{white-space:pre-wrap;margin:.3rem 0}}
@media print{{details>*{{display:block}}.topic{{break-inside:avoid}}}}
"""
)
