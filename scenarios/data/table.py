"""The small tables that ship inside scikit-learn: nothing is downloaded."""

from typing import Any, Literal

import numpy as np
from sklearn import datasets

from ...simulator.tables import Row
from .examples import Examples
from .split import Seed, Share, class_numbers, held_out, make_examples, standardised

TABLES: dict[str, Any] = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
}


class TableSpec(Row):
    """`kind = "table"`: rows of numbers, each column standardised by the training part.

    Attributes:
        name: iris (150 x 4, 3 classes), wine (178 x 13, 3 classes), breast_cancer (569 x 30,
            2 classes), or diabetes (442 x 10), a regression whose target is standardised too.
    """

    kind: Literal["table"] = "table"
    name: Literal["iris", "wine", "breast_cancer", "diabetes"]
    test_fraction: Share = 0.2
    split_seed: Seed = 0


def load_table(spec: TableSpec) -> Examples:
    """Inputs (n, columns) float32; classes (n,) int64, or the regression's (n, 1) float32."""
    options = {"scaled": False} if spec.name == "diabetes" else {}
    bundle = TABLES[spec.name](**options)
    inputs, targets = np.asarray(bundle.data, np.float64), np.asarray(bundle.target)
    what = f"the {spec.name} table"
    regression = spec.name == "diabetes"
    names: list[str] = []
    if not regression:
        targets, names = class_numbers(targets, what)
    test = held_out(targets, "regression" if regression else "classification",
                    spec.test_fraction, spec.split_seed, what)  # fmt: skip
    scaled = standardised(inputs, inputs[~test], (0,))
    if regression:
        column = targets.astype(np.float64)[:, None]
        targets = standardised(column, column[~test], (0,))
        parts = scaled[~test], targets[~test], scaled[test], targets[test]
        return make_examples(parts, "regression", 1, what)
    parts = scaled[~test], targets[~test], scaled[test], targets[test]
    return make_examples(parts, "classification", len(names), what)
