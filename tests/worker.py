"""
One of two processes of a MultiWorkerMirroredStrategy: python worker.py TASK PORT PORT FOLDER

Scores maps and searches, and keeps the scores in the folder. Then the second process dies in a
search with a checkpoint.
"""

import json
import os
import sys

if __name__ == "__main__":
    task, ports, folder = int(sys.argv[1]), sys.argv[2:4], sys.argv[4]
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
            "task": {"type": "worker", "index": task},
        }
    )
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    # before Keras, which asks TensorFlow for its devices
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

import keras
import numpy as np
from kinds import samples
from kinds_images import small_network
from xplique.attributions import Saliency

from xplique_forgrad import Faithfulness, SigmaOptimizer


class Die(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            os._exit(9)


def search(model, checkpoint, how, callbacks=()):
    """The search that is also run on one device."""
    inputs, targets = samples(16, 16, 3, number=40)
    optimizer = SigmaOptimizer(
        Saliency(model),
        sigmas=[1, 6],
        steps=2,
        activation="softmax",
        batch_size=16,
        strategy=how,
    )
    return optimizer.search(inputs, targets, checkpoint=checkpoint, callbacks=callbacks, verbose=0)


def main():
    with strategy.scope():
        model = small_network((16, 16, 3))
    inputs, targets = samples(16, 16, 3, number=13)
    maps = np.random.default_rng(1).random((13, 16, 16, 1))
    metric = Faithfulness(model, inputs, targets, activation="softmax", strategy=strategy)
    scores = metric.evaluate_per_image(maps)
    try:
        metric.evaluate_per_image(maps + task)
    except ValueError as error:
        print(error, flush=True)
    how = "exhaustive", strategy
    np.savez(f"{folder}/{task}.npz", metric=scores, search=search(model, None, how).scores)
    search(model, f"{folder}/checkpoint", how, [Die()] if task == 1 else [])


if __name__ == "__main__":
    main()
