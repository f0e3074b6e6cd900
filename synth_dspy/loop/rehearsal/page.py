"""A report of headings, tables and notes, as one HTML page and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A head and rows."""
Section = tuple[str, Table, str]
"""A heading, a table, and a note about it."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px } caption { text-align: left; font-weight: 600 }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top }
.wide { overflow-x: auto }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e8e8e8 } th, td { border-color: #444 } }
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes:
        lines: what it was made with, as a list.
        sections: with a table each.
    """

    title: str
    lines: Sequence[str]
    sections: Sequence[Section]

    def markdown(self) -> str:
        """The report in Markdown."""
        text = f"# {self.title}\n\n" + "\n".join(f"- {line}" for line in self.lines) + "\n"
        for title, (head, rows), note in self.sections:
            lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
            text += f"\n## {title}\n\n" + "\n".join(lines) + f"\n\n{note}\n"
        return text

    def html(self) -> str:
        """The report as one HTML page."""
        body = Markup("<h1>{}</h1><ul>").format(self.title)
        body += Markup("").join(Markup("<li>{}</li>").format(line) for line in self.lines) + Markup("</ul>")
        for title, (head, rows), note in self.sections:
            body += Markup('<h2>{}</h2><div class="wide"><table><thead><tr>').format(title)
            body += Markup("").join(Markup('<th scope="col">{}</th>').format(cell) for cell in head)
            body += Markup("</tr></thead><tbody>")
            for row in rows:
                cells = Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row)
                body += Markup("<tr>") + cells + Markup("</tr>")
            body += Markup("</tbody></table></div><p>{}</p>").format(note)
        head_tag = Markup('<meta charset="utf-8"><title>{}</title>').format(self.title)
        viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
        page = f'<!doctype html><html lang="en"><head>{head_tag}{viewport}<style>{_STYLE}</style></head>'
        return f"{page}<body>{escape(body)}</body></html>\n"
