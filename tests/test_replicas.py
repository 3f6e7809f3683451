"""
Replicas that share the passes: two logical devices in this process, and two processes.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from kinds import samples
from kinds_images import small_network
from worker import search as search_of_worker
from xplique.attributions import Saliency, SmoothGrad

from xplique_forgrad import Deletion, Faithfulness, Insertion, MuFidelity, SigmaOptimizer
from xplique_forgrad._samples import Batch
from xplique_forgrad.benchmark import run_benchmark
from xplique_forgrad.search._explaining import Explaining, is_on_gpu

NB_IMAGES = 13


@pytest.fixture(scope="module")
def data():
    inputs, targets = samples(16, 16, 3, number=NB_IMAGES)
    maps = np.random.default_rng(1).random((NB_IMAGES, 16, 16, 1))
    return inputs, targets, maps


@pytest.fixture(scope="module")
def model():
    return small_network((16, 16, 3))


@pytest.fixture(scope="module")
def mirrored(strategy, model):
    """The model with weights on each device."""
    with strategy.scope():
        copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


# fewer rows than replicas, one image left over, and more than all
@pytest.mark.parametrize("batch_size", [1, 7, 64, None])
@pytest.mark.parametrize("kind", [Deletion, Insertion, Faithfulness, MuFidelity])
def test_replicas_give_the_scores_of_one_device(kind, batch_size, model, mirrored, strategy, data):
    inputs, targets, maps = data
    options = {"activation": "softmax", "batch_size": batch_size}
    options |= {"nb_samples": 20} if kind is MuFidelity else {"steps": 5}
    alone = kind(model, inputs, targets, **options)
    shared = kind(mirrored, inputs, targets, strategy=strategy, **options)
    expected = alone.evaluate_per_image(maps)
    np.testing.assert_allclose(shared.evaluate_per_image(maps), expected, atol=1e-6)
    assert shared.nb_evaluations == alone.nb_evaluations


def test_both_replicas_run_the_model(strategy, data):
    devices = []

    class Watch(keras.layers.Layer):
        def call(self, inputs):
            devices.append(inputs.device)
            return inputs

    image = keras.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(Watch()(image)))
    devices.clear()
    inputs, targets, maps = data
    Insertion(model, inputs, targets, strategy=strategy).evaluate(maps)
    assert {name[-5:] for name in devices} >= {"CPU:0", "CPU:1"}


@pytest.mark.parametrize(
    ("search", "explainer"), [("exhaustive", Saliency), ("racing", SmoothGrad)]
)
def test_a_search_on_replicas_is_that_on_one_device(search, explainer, strategy, mirrored, model):
    inputs, targets = samples(16, 16, 3, number=50)
    options = {"sigmas": [1, 3, 6], "steps": 4, "activation": "softmax"}
    few = {"nb_samples": 2} if explainer is SmoothGrad else {}
    found = []
    for one, how in ((model, search), (mirrored, (search, strategy))):
        optimizer = SigmaOptimizer(
            explainer(one, **few), control="other_image", strategy=how, **options
        )
        found.append(optimizer.search(inputs, targets, verbose=0))
    np.testing.assert_allclose(found[1].scores, found[0].scores, atol=1e-6)
    assert found[1].best_candidate == found[0].best_candidate


def test_a_benchmark_on_replicas_is_that_on_one_device(strategy, mirrored, model):
    inputs, targets = samples(16, 16, 3, number=14)
    methods = ["Saliency", "SmoothGrad:nb_samples=2", "Occlusion"]
    options = {"controls": ["centre"], "sigmas": [3], "nb_choosing": 3, "nb_stability": 2}
    options |= {"steps": 3, "mu_fidelity_samples": 10, "activation": "softmax", "verbose": 0}
    found = [
        run_benchmark({"model": one}, inputs, targets, methods, strategy=how, **options)
        for one, how in ((model, None), (mirrored, strategy))
    ]
    assert (found[1].methods["status"] == "done").all()
    records = [one.records.sort_values(["method", "treatment", "image"]) for one in found]
    for name in ("insertion", "deletion", "control", "stability", "agreement"):
        np.testing.assert_allclose(records[1][name], records[0][name], atol=1e-5, equal_nan=True)
    np.testing.assert_array_equal(found[1].methods["forward"], found[0].methods["forward"])


@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="needs a GPU")
def test_explanations_stay_on_the_gpu_that_made_them(model, data):
    inputs, targets, _ = data
    explainer = Saliency(model)
    explaining = Explaining(lambda batch: explainer.explain(batch.inputs, batch.targets), seed=0)
    assert is_on_gpu(explaining.maps(Batch(np.arange(len(inputs)), inputs, targets)))


def test_two_devices_and_a_name_of_a_search_go_together():
    with pytest.raises(ValueError, match="a pair of one each"):
        SigmaOptimizer(Saliency, strategy=("racing", "exhaustive"))
    with pytest.raises(ValueError, match="must be one of 'racing', 'exhaustive'"):
        SigmaOptimizer(Saliency, strategy="mirrored")
    with pytest.raises(ValueError, match=r"give .* a tf\.distribute\.Strategy"):
        SigmaOptimizer(Saliency, strategy=tf.distribute.MirroredStrategy)


def test_a_strategy_is_one_of_tensorflow(model, data):
    with pytest.raises(TypeError, match=r"give a strategy of tf\.distribute"):
        Deletion(model, *data[:2], strategy="mirrored")


def test_functions_that_are_no_graphs_run_beside_a_strategy(model, strategy, data):
    inputs, targets, maps = data

    def predict(images):
        return np.asarray(model(np.asarray(images)))

    shared = Insertion(predict, inputs, targets, steps=3, batch_size=7, strategy=strategy)
    alone = Insertion(predict, inputs, targets, steps=3, batch_size=7)
    np.testing.assert_allclose(
        shared.evaluate_per_image(maps), alone.evaluate_per_image(maps), atol=1e-6
    )


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """The folder of two processes of `worker.py` that ended, their exit codes, what they print."""
    folder = tmp_path_factory.mktemp("workers")
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here}:{here.parent}"}
    command = [sys.executable, "-W", "ignore", str(here / "worker.py")]
    workers = [
        subprocess.Popen(
            [*command, str(task), *ports, str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for task in range(2)
    ]
    try:
        printed = [worker.communicate(timeout=300)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return folder, [worker.returncode for worker in workers], printed


@pytest.fixture(scope="module")
def searched(model):
    return search_of_worker(model, None, "exhaustive")


def test_two_processes_give_the_scores_of_one(workers, model, data, searched):
    folder, _, printed = workers
    # given other maps, both say so
    assert all("differ in inputs, targets or explanations" in text for text in printed)
    inputs, targets, maps = data
    expected = Faithfulness(model, inputs, targets, activation="softmax").evaluate_per_image(maps)
    for task in range(2):
        found = np.load(folder / f"{task}.npz")
        np.testing.assert_allclose(found["metric"], expected, atol=1e-6)
        np.testing.assert_allclose(found["search"], searched.scores, atol=1e-6)


def test_a_search_whose_process_died_goes_on_with_other_devices(
    workers, model, mirrored, strategy, searched
):
    folder, codes, printed = workers
    assert codes[1] == 9
    assert codes[0] not in (0, 9)
    assert "A process of the strategy does not answer any more" in printed[0]
    checkpoint = folder / "checkpoint"
    size = checkpoint.stat().st_size
    result = search_of_worker(mirrored, checkpoint, ("exhaustive", strategy))
    np.testing.assert_allclose(result.scores, searched.scores, atol=1e-6)
    # something was there, and the rest was added
    assert checkpoint.stat().st_size > size > 1000
    again = search_of_worker(model, checkpoint, "exhaustive")
    np.testing.assert_allclose(again.scores, result.scores, atol=0)
    assert again.nb_evaluations == result.nb_evaluations
