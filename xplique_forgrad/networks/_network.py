"""
A classifier with what its images go through.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np

from ..images import Preprocessing


@dataclass(frozen=True)
class Network:
    """
    A classifier, what its images go through, and the names of its classes.

    Attributes
    ----------
    model
        Keras model of images (N, H, W, C), with logits (N, nb_classes) out where it has them.
    preprocessing
        What makes inputs of a photograph.
    class_names
        Names in the order of the outputs; None if they are not known.
    class_ids
        Other names that a folder or a labels file may use, such as WordNet's; None if there are
        none.
    activation
        What metrics put on the outputs to score probabilities: "softmax" or "sigmoid" on logits,
        None where the outputs are probabilities already.
    note
        What was done about a softmax, in a sentence; empty if nothing was.
    """

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = field(default=None, repr=False)
    class_ids: tuple[str, ...] | None = field(default=None, repr=False)
    activation: str | None = "softmax"
    note: str = ""

    @property
    def nb_classes(self) -> int:
        """Number of outputs."""
        return int(self.model.output_shape[-1])

    @cached_property
    def classes(self) -> dict[str, int]:
        """Index of a class by its id, and by its name where no other class has that."""
        names, ids = self.class_names or (), self.class_ids or ()
        numbers = Counter(names)
        found = {name: index for index, name in enumerate(names) if numbers[name] == 1}
        return {**found, **{name: index for index, name in enumerate(ids)}}

    def name_of(self, index: int) -> str:
        """
        Name of a class.

        Parameters
        ----------
        index
            Which class, as a position in the outputs of the model.

        Returns
        -------
        name :
            Its name; where there are no names, "class" and the index.
        """
        return self.class_names[index] if self.class_names else f"class {index}"

    def predict(self, inputs: np.ndarray, top: int = 1) -> list[list[tuple[str, float]]]:
        """
        The classes that score highest.

        Parameters
        ----------
        inputs
            Preprocessed images of shape (N, H, W, C).
        top
            Number of classes for each.

        Returns
        -------
        predictions :
            For each image, `top` pairs of a name (see `name_of`) and its probability, the
            likeliest first.

        Raises
        ------
        ValueError
            If the inputs have another number of axes than the model takes.
        """
        expected, found = self.model.input_shape, np.shape(inputs)
        if len(found) != len(expected):
            raise ValueError(
                f"`inputs` have shape {found}, and the model takes {expected}; a single image goes "
                "as inputs[None]."
            )
        outputs = self.model.predict(np.asarray(inputs), verbose=0)
        if self.activation:
            outputs = np.asarray(keras.activations.get(self.activation)(outputs))
        best = np.argsort(-outputs, axis=1)[:, :top]
        return [
            [(self.name_of(index), float(row[index])) for index in order]
            for row, order in zip(outputs, best)
        ]
