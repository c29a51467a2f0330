"""Samples to markdown: medians, ratios to the baseline, and whether the bars were met."""

from collections.abc import Sequence
from statistics import median

from bench.measures import Column
from bench.runner import Result
from bench.scenarios import Bar

DASH = "-"
DISTURBED_PERCENT = 5.0
IDLE_PERCENT = 10.0


def markdown(result: Result) -> str:
    """Title, one aligned table, then the lines that must not be overlooked."""
    columns = result.scenario.measure.columns
    cells = [["target", *(heading(column, result) for column in columns)]]
    for row in result.scenario.rows:
        if row.name in result.samples:
            mark = " (INVALID)" if row.name in result.failures else ""
            cells.append([row.name + mark, *(cell(column, row.name, result) for column in columns)])
    lines = [f"### {result.scenario.name}: {result.scenario.says}", ""]
    lines += aligned(cells) if len(cells) > 1 else ["Nothing was measured."]
    return "\n".join([*lines, "", *remarks(result)])


def remarks(result: Result) -> list[str]:
    lines = [f"- FAILED, no result: {name}: {why.splitlines()[0]}" for name, why in result.failures.items()]
    lines += [f"- skipped: {name}: {why}" for name, why in result.not_available.items()]
    lines += [verdict(bar, result) for bar in result.scenario.bars if bar.row in result.samples]
    if disturbed := [name for name in result.samples if median_of("others_percent", name, result) > DISTURBED_PERCENT]:
        lines.append(f"- disturbed: other processes used its core too: {', '.join(disturbed)}")
    if bound := [name for name in result.samples if idle_percent(name, result) > IDLE_PERCENT]:
        lines.append(f"- not at its limit, requests/s and MB/s are those of the load's core: {', '.join(bound)}")
    return lines


def median_of(figure: str, row: str, result: Result) -> float:
    return median(sample.figures.get(figure, 0.0) for sample in result.samples[row])


def idle_percent(row: str, result: Result) -> float:
    """How much of its core nobody used: then the load, not the target, was the limit."""
    busy = median_of("busy_percent", row, result)
    return 100 - busy - median_of("others_percent", row, result) if busy else 0.0


def heading(column: Column, result: Result) -> str:
    return f"{column.heading} to {result.scenario.baseline}" if column.show == "ratio" else column.heading


def cell(column: Column, row: str, result: Result) -> str:
    values = [sample.figures[column.figure] for sample in result.samples[row]]
    match column.show:
        case "median":
            return f"{median(values):,.{column.digits}f}"
        case "max":
            return f"{max(values):,.{column.digits}f}"
        case "spread":
            return f"{100 * (max(values) - min(values)) / median(values):.0f} %" if median(values) else DASH
        case _:
            to_baseline = ratio(column.figure, row, result.scenario.baseline, result)
            return DASH if to_baseline is None else f"{to_baseline:.{column.digits}f}"


def ratio(figure: str, row: str, base_row: str, result: Result) -> float | None:
    """The median of the ratios within each round.

    HOWEVER tempting, not the ratio of the medians: a shared machine grows slower and faster by the minute, which two
    neighbours in a round feel alike. Four copies of one target, six rounds: this erred by at most 11 %, that by 15.
    """
    pairs = zip(result.samples[row], result.samples.get(base_row, ()), strict=False)
    ratios = [sample.figures[figure] / base.figures[figure] for sample, base in pairs if base.figures[figure]]
    return median(ratios) if ratios else None


def verdict(bar: Bar, result: Result) -> str:
    name = next(
        column.heading
        for column in result.scenario.measure.columns
        if column.figure == bar.figure and (column.show == "max") == bar.worst
    )
    measured = measured_for(bar, result)
    if measured is None:
        return f"- bar: {bar.row}, {name}: not judged, {bar.to} was not measured"
    met = (bar.at_most is None or measured <= bar.at_most) and (bar.at_least is None or measured >= bar.at_least)
    wish = f"at most {bar.at_most:g}" if bar.at_most is not None else f"at least {bar.at_least:g}"
    unit = (f" above {bar.to}" if bar.above else f" x {bar.to}") if bar.to else ""
    return f"- bar: {bar.row}, {name}, {wish}{unit}: {measured:.2f}, {'met' if met else 'MISSED'}"


def measured_for(bar: Bar, result: Result) -> float | None:
    if bar.above:
        pairs = zip(result.samples[bar.row], result.samples.get(bar.to, ()), strict=False)
        more = [sample.figures[bar.figure] - base.figures[bar.figure] for sample, base in pairs]
        return median(more) if more else None
    if bar.to:
        return ratio(bar.figure, bar.row, bar.to, result)
    if bar.worst:
        return max(sample.figures[bar.figure] for sample in result.samples[bar.row])
    return median_of(bar.figure, bar.row, result)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """A markdown table that also reads well as text: first column to the left, figures to the right."""
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    lines = [_line(row, widths) for row in cells]
    rule = "|" + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return [lines[0], rule, *lines[1:]]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    rest = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
    return "| " + " | ".join([first, *rest]) + " |"
