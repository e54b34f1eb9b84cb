"""A classifier of your own from a few labels: embeddings in, class probabilities out. No torch, no images.

Usage::

    .venv/bin/pip install scikit-learn
    .venv/bin/broker-subscribe --topic alerts.enriched --format jsonl --exit-at-end > alerts.jsonl
    .venv/bin/python examples/few_labels.py alerts.jsonl labels.csv [predictions.csv]

``labels.csv`` has a heading, ``alert_id,label``. ``demo-output/enriched.jsonl`` of the demo will do for the alerts.
The score that is printed is cross-validated, and so are the probabilities of alerts you labelled: they come from a
model that has not seen their object. All other alerts are answered by a model of every label.
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import NoReturn

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

FOLDS = 5
USAGE = "usage: python examples/few_labels.py alerts.jsonl labels.csv [predictions.csv]"


def refuse(why: str) -> NoReturn:
    """End with one line and exit code 2."""
    print(f"few_labels: {why}", file=sys.stderr)
    sys.exit(2)


def read_alerts(path: Path) -> list[dict]:
    """Read every alert with an embedding, once; lines of broker-subscribe and of the demo."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        alerts = [record.get("enrichment", record) for record in records]
        return list({a["alert_id"]: a for a in alerts if a["embedding"] is not None}.values())
    except OSError as error:
        refuse(f"{path}: {error.strerror}")
    except (ValueError, KeyError, AttributeError, TypeError):
        refuse(f"{path} holds no enriched alerts: make it with broker-subscribe --format jsonl")


def read_labels(path: Path) -> dict[int, str]:
    """Read labels by alert id; the byte-order mark that spreadsheets write is passed over."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            heading = rows.fieldnames or []
            column = next((name for name in ("label", "class") if name in heading), None)
            if column is None or "alert_id" not in heading:
                refuse(f"{path} begins {','.join(heading)[:60]!r}: its first line must be alert_id,label")
            return {int(row["alert_id"]): row[column].strip() for row in rows if row[column]}
    except OSError as error:
        refuse(f"{path}: {error.strerror}")
    except (ValueError, TypeError) as error:  # a spreadsheet makes 1.7E+17 of an id
        refuse(f"{path}: an alert_id is no whole number ({error}): keep that column as text")


if len(sys.argv) not in {3, 4}:
    refuse(USAGE)
alerts_path, labels_path, output = map(Path, [*sys.argv[1:], "predictions.csv"][:3])
alerts, labels = read_alerts(alerts_path), read_labels(labels_path)
if len({a["model"]["weights_digest"] for a in alerts}) > 1:
    refuse(f"{alerts_path} holds embeddings of several models, which do not compare: keep those of one")
known = [i for i, a in enumerate(alerts) if a["alert_id"] in labels]
if not known:
    refuse(f"none of the {len(labels)} labels is for one of the {len(alerts)} alerts: compare the alert_ids")
features = np.array([a["embedding"] for a in alerts])
truth = np.array([labels[alerts[i]["alert_id"]] for i in known])
objects = [alerts[i]["object_id"] for i in known]
of_class = defaultdict(set)
for label, name in zip(truth, objects, strict=True):
    of_class[str(label)].add(name)
if len(of_class) == 1:
    refuse(f"every label that has an alert is {truth[0]}: label a second class")
rare, few = min(((label, len(names)) for label, names in of_class.items()), key=lambda pair: pair[1])
if few < FOLDS:
    refuse(f"class {rare}: wanted {FOLDS} labelled objects or more, found {few}: label more, or leave it out")

model = LogisticRegression(C=10, max_iter=2000, class_weight="balanced")
folds = StratifiedGroupKFold(n_splits=FOLDS, shuffle=True, random_state=0)
unseen = cross_val_predict(model, features[known], truth, groups=objects, cv=folds, method="predict_proba")
chances = model.fit(features[known], truth).predict_proba(features)
chances[known] = unseen

classes = model.classes_
with output.open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["alert_id", "object_id", "label", "predicted", *(f"p_{name}" for name in classes)])
    for alert, row in zip(alerts, chances, strict=True):
        label = labels.get(alert["alert_id"], "")
        best, numbers = classes[row.argmax()], [f"{p:.4f}" for p in row]
        table.writerow([alert["alert_id"], alert["object_id"], label, best, *numbers])
score = balanced_accuracy_score(truth, classes[unseen.argmax(axis=1)])
print(f"{len(known)} labelled alerts of {len(alerts)}, classes {', '.join(classes)}")
print(f"balanced accuracy {score:.3f} (chance {1 / len(classes):.3f})")
print(f"class probabilities of all {len(alerts)} alerts are in {output}")
