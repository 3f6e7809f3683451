"""
The maths of the package, written slowly and plainly from the paper's equations in float64 NumPy.

No FFT and nothing of the package: the discrete Fourier transform is a product with its matrix.
"""

import numpy as np


def signed_frequencies(size):
    """0, 1, ..., -2, -1: the integer frequency of each DFT coefficient."""
    return np.array([k if k < size - k else k - size for k in range(size)])


def low_pass_mask(shape, sigma, window):
    longest = max(shape)
    mask = np.zeros(shape)
    for index in np.ndindex(*shape):
        cycles = [
            longest / size * abs(signed_frequencies(size)[i]) for i, size in zip(index, shape)
        ]
        radius = sum(c**2 for c in cycles) ** 0.5
        if window == "disk":
            mask[index] = radius <= sigma + 1e-6
        elif window == "box":
            mask[index] = all(c <= sigma + 1e-6 for c in cycles)
        elif window == "gaussian":
            mask[index] = np.exp(-(radius**2) / (2 * sigma**2))
        else:
            mask[index] = 1 / (1 + (radius / sigma) ** 4)
    return mask


def dft(values, axis, sign):
    size = values.shape[axis]
    n = np.arange(size)
    matrix = np.exp(sign * 2j * np.pi * np.outer(n, n) / size)
    return np.moveaxis(np.moveaxis(values, axis, -1) @ matrix.T, -1, axis)


def forgrad(
    explanations, sigma, window="disk", rectify="magnitude", axes=(1, 2), border="periodic"
):
    explanations = np.asarray(explanations, np.float64)
    if border == "reflect":
        # a period of the mirrored map: twice as many pixels hold twice as many cycles
        sizes = explanations.shape
        for axis in axes:
            explanations = np.concatenate([explanations, np.flip(explanations, axis)], axis)
        filtered = forgrad(explanations, 2 * np.asarray(sigma), window, rectify, axes)
        return filtered[tuple(slice(size) for size in sizes)]

    if rectify == "magnitude":
        explanations = np.abs(explanations)
    elif rectify == "positive":
        explanations = np.where(explanations > 0, explanations, 0.0)

    filtered = np.empty_like(explanations)
    sigmas = np.broadcast_to(sigma, len(explanations))
    for i, (maps, cutoff) in enumerate(zip(explanations, sigmas)):
        spectrum = maps.astype(complex)
        map_axes = sorted(axis - 1 for axis in axes)
        for axis in map_axes:
            spectrum = dft(spectrum, axis, sign=-1)
        mask = low_pass_mask([maps.shape[axis] for axis in map_axes], cutoff, window)
        spectrum *= np.expand_dims(mask, [a for a in range(maps.ndim) if a not in map_axes])
        for axis in map_axes:
            spectrum = dft(spectrum, axis, sign=+1) / maps.shape[axis]
        filtered[i] = spectrum.real
    return np.abs(filtered) if rectify == "magnitude" else filtered
