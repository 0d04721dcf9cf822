"""Intervals over documents or images, for the difference of two losses on the same examples."""

from typing import Final

import numpy as np

from uoe_model.training.probes import FloatArray, IntArray, Losses

RESAMPLES: Final = 2000


def cluster_sums(values: FloatArray, clusters: IntArray) -> FloatArray:
    """Sum of the values of every cluster."""
    sums: FloatArray = np.bincount(clusters, weights=values).astype(np.float64)
    return sums


class Bootstrap:
    """95% percentile intervals of sum(differences) / sum(counts), drawing whole clusters with replacement.

    The same clusters are drawn for every interval, so that rows of a table can be compared.
    """

    def __init__(self, losses: Losses, seed: int) -> None:
        """Draw `RESAMPLES` times among the clusters of these losses."""
        self._clusters = losses.clusters
        counts = cluster_sums(losses.counts.astype(np.float64), losses.clusters)
        even = np.full(len(counts), 1 / len(counts))
        self._drawn = np.random.default_rng(seed).multinomial(len(counts), even, size=RESAMPLES).astype(np.int16)
        self._counts = self._drawn @ counts

    def interval(self, difference: FloatArray) -> tuple[float, float]:
        """Low and high, from the nats of every example under one condition minus those under another."""
        rates = (self._drawn @ cluster_sums(difference, self._clusters)) / self._counts
        low, high = np.quantile(rates, [0.025, 0.975])
        return float(low), float(high)
