"""`python -m benchmarks.page`: write the figures and plots of docs/performance.md from the files of results.

The text around the figures is written by hand, and is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks import results
from benchmarks.tables import Results, tables

BEGIN = "<!-- figures: `python -m benchmarks.page` -->"
END = "<!-- end of the figures -->"

_DOCS = Path(__file__).parent.parent / "docs"
_PAGE = _DOCS / "performance.md"
_PLOTS = _DOCS / "performance"
_ALTERNATIVE = {
    "latencies": "distribution of response times",
    "memory": "memory of a worker over time",
    "sizes": "seconds of a list by number of machines",
}


def with_figures(page: str, clouds: Mapping[str, Results], plots: list[str]) -> str:
    """Return the page with these figures and plots; raises `ValueError` if the page has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    images = [f"![{_ALTERNATIVE[name.partition('-')[0]]}]({_PLOTS.name}/{name})" for name in plots]
    return f"{before}{BEGIN}\n{tables(clouds)}\n\n{chr(10).join(images)}\n{END}{after}"


def main() -> None:
    """Write the page and its plots."""
    from benchmarks.plots import write_plots  # needs matplotlib, which the tests do not

    clouds = results.read(results.DIRECTORY)
    plots = write_plots(clouds, _PLOTS)
    _PAGE.write_text(with_figures(_PAGE.read_text("utf-8"), clouds, plots), "utf-8")


if __name__ == "__main__":
    main()
