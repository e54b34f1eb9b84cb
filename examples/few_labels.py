"""A classifier of your own from a few labels: embeddings in, scores out. No torch, no images.

Usage::

    broker-subscribe --topic alerts.enriched --format jsonl --exit-at-end > alerts.jsonl
    python examples/few_labels.py alerts.jsonl labels.csv      # labels.csv: alert_id,label

Needs scikit-learn. What it prints is cross-validated: every alert is scored by a model that has
not seen its object.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

alerts_path, labels_path = map(Path, sys.argv[1:3])
with labels_path.open(newline="", encoding="utf-8") as file:
    labels = {int(row["alert_id"]): row["label"] for row in csv.DictReader(file)}
with alerts_path.open(encoding="utf-8") as file:
    enrichments = [json.loads(line)["enrichment"] for line in file]
known = [e for e in enrichments if e["embedding"] is not None and e["alert_id"] in labels]

features = np.array([e["embedding"] for e in known])
truth = np.array([labels[e["alert_id"]] for e in known])
objects = [e["object_id"] for e in known]
model = LogisticRegression(C=10, max_iter=2000, class_weight="balanced")
folds = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=0)
guess = cross_val_predict(model, features, truth, groups=objects, cv=folds)

classes = np.unique(truth)
print(f"{len(known)} labelled alerts of {len(enrichments)}, classes {', '.join(classes)}")
print(f"balanced accuracy {balanced_accuracy_score(truth, guess):.3f} (chance {1 / len(classes):.3f})")
