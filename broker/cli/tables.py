"""Small tables: as wide as what stands in them, nothing cut."""

from collections.abc import Sequence

GAP = "  "


def table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lay out rows under a heading; whole numbers stand to the right of their column.

    Parameters
    ----------
    heading : sequence of str
    rows : sequence of sequences
        Each as long as the heading.

    Returns
    -------
    list of str
        Lines without their ends.
    """
    texts = [list(heading), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numeric = [all(isinstance(row[at], int) for row in rows) for at in range(len(heading))]
    return [
        GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in texts
    ]
