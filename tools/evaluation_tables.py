"""Write the numbers of the documents anew from reports of `encoder evaluate`.

    python tools/evaluation_tables.py                                  # from docs/measured
    python tools/evaluation_tables.py dc2=runs/dc2/report.json         # after a report was taken over

A report taken over lies as docs/measured/NAME.json; what the documents show of it stands in them between comments (see
`encoder.evaluation.summary`).
"""

import sys
from pathlib import Path

from encoder.evaluation.result import Evaluation
from encoder.evaluation.summary import filled

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "measured"
DOCUMENTS = (ROOT / "docs" / "evaluation.md", ROOT / "README.md")


def load(name: str) -> Evaluation:
    """Read a report that was taken over."""
    return Evaluation.model_validate_json((MEASURED / f"{name}.json").read_text())


def main(words: list[str]) -> None:
    """Take reports over, then fill the documents."""
    MEASURED.mkdir(exist_ok=True)
    for word in words:
        name, _, path = word.partition("=")
        report = Evaluation.model_validate_json(Path(path).read_text())
        (MEASURED / f"{name}.json").write_text(report.model_dump_json(indent=1) + "\n")
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text(), load))


if __name__ == "__main__":
    main(sys.argv[1:])
