"""
The complexity metrics are Xplique's in kind, and give what the functions of `spectrum` give.
"""

import numpy as np
import pytest
import xplique.metrics
from xplique.metrics.base import BaseComplexityMetric

from xplique_forgrad import spectrum

METRICS = {
    "HighFrequencyPower": (spectrum.high_frequency_power, {"sigma": 5}),
    "ExpectedFrequency": (spectrum.expected_frequency, {}),
    "MeanAbsoluteLaplacian": (spectrum.mean_absolute_laplacian, {}),
    "CompressedSize": (spectrum.compressed_size, {"codec": "zlib", "nb_bits": 6}),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("rectify", [None, "magnitude"])
def test_is_a_complexity_metric_of_xplique(name, rectify, rng):
    function, options = METRICS[name]
    metric = getattr(xplique.metrics, name)(batch_size=4, rectify=rectify, **options)
    assert isinstance(metric, BaseComplexityMetric)
    explanations = rng.standard_normal((10, 20, 24, 1)).astype(np.float32)
    expected = function(explanations, rectify=rectify, **options)
    np.testing.assert_allclose(metric.detailed_evaluate(explanations), expected)
    assert metric(explanations) == pytest.approx(expected.mean())
    assert metric.evaluate(explanations[..., 0]) == pytest.approx(expected.mean())


def test_all_put_noise_above_a_smooth_map(rng):
    rows, columns = np.indices((48, 48)) / 48
    smooth = np.exp(-((rows - 0.5) ** 2 + (columns - 0.4) ** 2) / 0.05)[None, ..., None]
    noise = rng.random((1, 48, 48, 1))
    for name in METRICS:
        metric = getattr(xplique.metrics, name)()
        assert metric(noise) > metric(smooth)
