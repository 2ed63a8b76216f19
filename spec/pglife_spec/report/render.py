"""Reports as text, Markdown and one HTML file, by the templates in `templates/`."""

from collections.abc import Mapping
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pglife_spec.lang.expr import show
from pglife_spec.lang.machine import Machine
from pglife_spec.meanings.pack import label
from pglife_spec.report.collect import Report, is_declared
from pglife_spec.report.formats import SUFFIX, Format
from pglife_spec.traces.trace import Trace


def render(report: Report, format_: Format, pictures: Mapping[str, str] | None = None) -> str:
    """The report as a document.

    Args:
        report: what to say.
        format_: text, Markdown or HTML.
        pictures: SVG documents by title, shown in HTML.
    """
    environment = Environment(
        loader=PackageLoader("pglife_spec.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"show": show, "label": label, "ending": ending, "cell": _cell}
    template = environment.get_template(f"report{SUFFIX[format_]}.j2")
    proved = sum(e.status == "proved" for e in report.claims)
    return template.render(
        report=report,
        machine=report.machine,
        proved=proved,
        pictures=dict(pictures or {}),
        is_declared=is_declared,
        rows=partial(rows, report.machine),
    )


def rows(machine: Machine, trace: Trace) -> list[dict[str, str]]:
    """A trace's steps as text: action, changes, evidence."""
    steps: list[dict[str, str]] = []
    for index, moment in enumerate(trace.moments):
        if index == 0:
            continue
        changes = (
            f"{name} = {label(v)}"
            for name, v in trace.changes(index).items()
            if machine.variable(name).shown
        )
        steps.append(
            {
                "action": moment.action or "?",
                "changes": ", ".join(changes),
                "seen": "; ".join(" ".join(map(label, e)) for e in moment.evidence),
            }
        )
    return steps


def ending(trace: Trace) -> str:
    """How a run goes on for ever, in words; empty if it just ends."""
    if trace.loop is None:
        return ""
    if trace.loop == len(trace):
        return f"at rest after step {trace.loop} for ever"
    return f"from step {len(trace)} back to the state after step {trace.loop}, for ever"


def _cell(text: str) -> str:
    """Text in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
