"""A small Gaussian mixture: EM with full covariances, the number of parts by AIC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from foldgym.types import Floats


@dataclass(frozen=True, slots=True)
class Mixture:
    """`weight_K`, `mean_KD`, `cov_KDD`."""

    weight_K: Floats
    mean_KD: Floats
    cov_KDD: Floats

    def log_density(self, points_ND: Floats) -> Floats:
        """log weight + log normal density, per point and part [N, K]."""
        size = points_ND.shape[1]
        columns: list[Floats] = []
        for weight, mean_D, cov_DD in zip(self.weight_K, self.mean_KD, self.cov_KDD, strict=True):
            root_DD = np.linalg.cholesky(cov_DD)
            off_ND = np.linalg.solve(root_DD, (points_ND - mean_D).T).T
            log_det = 2 * np.log(np.diag(root_DD)).sum()
            quadratic_N = (off_ND**2).sum(axis=1)
            columns.append(
                np.log(weight) - 0.5 * (size * np.log(2 * np.pi) + log_det + quadratic_N)
            )
        return np.stack(columns, axis=1)

    def log_likelihood(self, points_ND: Floats) -> float:
        """Of all points together."""
        return float(_logsumexp(self.log_density(points_ND)).sum())

    def aic(self, points_ND: Floats) -> float:
        """`2 parameters - 2 log likelihood`; smaller is better."""
        parts, size = self.mean_KD.shape
        parameters = parts - 1 + parts * size + parts * size * (size + 1) // 2
        return 2 * parameters - 2 * self.log_likelihood(points_ND)


def fit(
    points_ND: Floats, parts: int, rng: np.random.Generator, steps: int = 50, ridge: float = 1e-4
) -> Mixture:
    """EM from random distinct points. `ridge` on every covariance keeps parts from collapsing."""
    count, size = points_ND.shape
    mean_KD = points_ND[rng.choice(count, parts, replace=False)].copy()
    spread_DD = np.cov(points_ND.T).reshape(size, size) + ridge * np.eye(size)
    mixture = Mixture(np.full(parts, 1 / parts), mean_KD, np.stack([spread_DD] * parts))
    last = -np.inf
    for _ in range(steps):
        log_NK = mixture.log_density(points_ND)
        norm_N = _logsumexp(log_NK)
        share_NK = np.exp(log_NK - norm_N[:, None])
        mass_K = share_NK.sum(axis=0) + 1e-10
        mean_KD = (share_NK.T @ points_ND) / mass_K[:, None]
        off_KND = points_ND[None] - mean_KD[:, None]
        cov_KDD = np.einsum("nk,knd,kne->kde", share_NK, off_KND, off_KND) / mass_K[:, None, None]
        mixture = Mixture(mass_K / mass_K.sum(), mean_KD, cov_KDD + ridge * np.eye(size))
        total = float(norm_N.sum())
        if total - last < 1e-4 * count:
            break
        last = total
    return mixture


def best(points_ND: Floats, most: int, rng: np.random.Generator) -> Mixture:
    """The mixture of 2 to `most` parts with the least AIC."""
    sizes = range(2, min(most, max(2, len(points_ND) // 4)) + 1)
    return min((fit(points_ND, k, rng) for k in sizes), key=lambda m: m.aic(points_ND))


def _logsumexp(log_NK: Floats) -> Floats:
    top_N = log_NK.max(axis=1)
    return top_N + np.log(np.exp(log_NK - top_N[:, None]).sum(axis=1))
