"""The tables that are printed, and the file that holds the same for programs."""

import json

from measures import FIGURES, middle


def show(row, figures):
    """Prints a row: a line per server with its medians and the spread of the first figure, then the comparisons."""
    print(f"\n{row.title}")
    head = [FIGURES[figure][0] for figure in figures]
    print(f"  {'':24}" + "".join(f"{name:>15}" for name in head) + "   spread of the first")
    for name, runs in row.series.items():
        cells = [_cell(figure, runs) for figure in figures]
        low, high = (_text(figures[0], edge(run[figures[0]] for run in runs)) for edge in (min, max))
        print(f"  {name:24}" + "".join(f"{cell:>15}" for cell in cells) + f"   {low} to {high}")
    for line in comparisons(row):
        print(f"  {line['figure']} {line['of']}: {_numbers(line)}{_wanted(line)}", flush=True)


def _cell(figure, runs):
    values = [run[figure] for run in runs if figure in run]
    return _text(figure, middle(values)[0]) if values else "-"


def _text(figure, value):
    _, factor, digits = FIGURES[figure]
    return f"{value * factor:.{digits}f}"


def _numbers(line):
    return f"{line['median']:.3g} [{line['low']:.3g} to {line['high']:.3g}]"


def _wanted(line):
    if line["reached"] is None:
        return ""
    bound = f"at least {line['least']:g}" if line["least"] is not None else f"at most {line['most']:g}"
    return f", wanted {bound}: {'reached' if line['reached'] else 'NOT REACHED'}"


def comparisons(row):
    """What the targets of a row come to."""
    lines = []
    for target in row.targets:
        if target.ours not in row.series or (target.theirs and target.theirs not in row.series):
            continue
        median, low, high = middle(target.values(row.series))
        of = f"{target.ours} / {target.theirs}" if target.theirs else f"of {target.ours}"
        lines.append({"row": row.title, "figure": FIGURES[target.figure][0], "of": of, "median": median, "low": low, "high": high,
                      "least": target.least, "most": target.most, "reached": target.reached(median)})
    return lines


def summary(rows):
    """Prints all that has a target once more, one line each."""
    lines = [line for row in rows for line in comparisons(row) if line["reached"] is not None]
    print("\n| what | figure | of | median [spread] | wanted | |\n|---|---|---|---|---|---|")
    for line in lines:
        bound = f">= {line['least']:g}" if line["least"] is not None else f"<= {line['most']:g}"
        verdict = "reached" if line["reached"] else "**not reached**"
        print(f"| {line['row']} | {line['figure']} | {line['of']} | {_numbers(line)} | {bound} | {verdict} |")


def write(path, about, rows):
    """Writes everything as JSON."""
    document = {**about, "rows": [{"title": row.title, "series": row.series, "comparisons": comparisons(row)} for row in rows]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
