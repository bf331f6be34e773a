"""The text model's linear part: a support vector machine over the n-gram features.

It learns by another loss than the network beside it, so the two err on different products, and their sum on fewer.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from sklearn.svm import LinearSVC

# The machine's own balance between a wide margin and the rows it gets wrong, for rows scaled as below.
_COST = 0.05
_SCALE = 0.5


def fit_linear_part(
    rows: scipy.sparse.csr_matrix,
    category_index: np.ndarray,
    weights: np.ndarray,
    texts_with_column: np.ndarray,
    texts: int,
    categories: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel float32 (columns, categories) and bias float32 (categories,) of one-against-all support vector machines.

    (Fan et al. 2008, "LIBLINEAR: A Library for Large Linear Classification"; columns are scaled by the inverse document
    frequency of Sparck Jones 1972, "A Statistical Interpretation of Term Specificity".) The bias of a category without
    rows is -1; with fewer than two categories all is 0.

    Args:
        rows: float32 (n, columns).
        category_index: int (n,).
        weights: float32 (n,), mean about 1.
        texts_with_column: int (columns,), how many of all texts have the feature.
        texts: How many texts these were counted over.
        categories: Number of categories.
        seed: Of the order of the rows.
    """
    columns = rows.shape[1]
    found = np.unique(category_index)
    kernel = np.zeros((columns, categories), np.float32)
    bias = np.full(categories, -1.0, np.float32)
    if len(found) < 2:
        return kernel, np.zeros(categories, np.float32)
    scale = _SCALE * (np.log((1 + texts) / (1 + texts_with_column)) + 1)
    machine = LinearSVC(C=_COST, dual=True, random_state=seed)
    machine.fit(rows @ scipy.sparse.diags(scale), category_index, sample_weight=weights)
    learned, constant = machine.coef_.T, machine.intercept_
    if len(found) == 2:
        # One machine tells two categories apart.
        learned, constant = np.hstack([-learned, learned]), np.concatenate([-constant, constant])
    kernel[:, found] = scale[:, None] * learned
    bias[found] = constant
    return kernel, bias
