"""SigmaOptimizer and the callbacks of Keras: a search drives them, and training drives it."""

import csv
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_search import small_model
from xplique.attributions import GradientInput, GuidedBackprop, Saliency

from xplique_forgrad import SigmaOptimizer


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(120, 16, 16, 3)).astype(np.float32)
    return inputs, np.eye(3, dtype=np.float32)[rng.integers(3, size=120)]


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls, self.logs = [], []

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append("batch")

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))

    def on_train_end(self, logs=None):
        self.calls.append("end")


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_is_a_training_to_callbacks(tmp_path, data, capsys):
    recorder = Recorder()
    path = tmp_path / "log.csv"
    optimizer = SigmaOptimizer(Saliency(small_model()), sigmas=[1, 2, 4, 8], tolerance=0.0)
    search = optimizer.search(
        *data, callbacks=[recorder, keras.callbacks.CSVLogger(str(path))], verbose=0
    )
    assert capsys.readouterr().out == ""
    assert recorder.calls[0] == "begin"
    assert recorder.calls[-1] == "end"
    epochs = [call for call in recorder.calls if isinstance(call, int)]
    assert epochs == list(range(len(epochs)))
    assert len(epochs) == len(recorder.logs) >= 3
    # the last is on the images held out
    *rounds, held_out = recorder.logs
    assert [log["nb_images"] for log in rounds] == sorted(log["nb_images"] for log in rounds)
    assert held_out["nb_images"] == 30
    assert held_out["sigma"] in (search.best_sigma, search.settings["full_band"])
    assert held_out["faithfulness"] == pytest.approx(search.held_out_score)
    rows = read(path)
    assert [float(row["sigma"]) for row in rows] == [log["sigma"] for log in recorder.logs]


@pytest.mark.parametrize("verbose", [1, 2])
def test_progress_is_that_of_keras(data, capsys, verbose):
    optimizer = SigmaOptimizer(Saliency(small_model()), sigmas=[2])
    optimizer.search(*data, verbose=verbose)
    printed = capsys.readouterr().out
    assert "Epoch 1/" in printed
    assert "faithfulness" in printed
    assert "sigma" in printed


def test_early_stopping_ends_the_race_and_the_winner_is_judged(data):
    # no candidate can be dropped: without a stop all rounds are run
    options = {"sigmas": [1, 2, 4, 8], "tolerance": 0.0, "z": 50.0}
    recorder = Recorder()
    stopping = keras.callbacks.EarlyStopping(monitor="nb_candidates", mode="min", patience=1)
    optimizer = SigmaOptimizer(Saliency(small_model()), **options)
    search = optimizer.search(*data, callbacks=[stopping, recorder], verbose=0)
    assert len(recorder.logs) == 3
    assert stopping.stopped_epoch == 1
    assert np.sum(search.held_out >= 0) == 30
    assert np.isfinite(search.gain_over_raw.low)

    whole = SigmaOptimizer(Saliency(small_model()), **options).search(*data, verbose=0)
    assert whole.nb_evaluations > search.nb_evaluations


def test_a_stop_within_an_exhaustive_search_keeps_what_was_scored(data, monkeypatch):
    monkeypatch.setattr("xplique_forgrad.search._loop._GROUP_IMAGES", 8)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                self.model.stop_training = True

    optimizer = SigmaOptimizer(Saliency(small_model()), sigmas=[2], strategy="exhaustive")
    search = optimizer.search(*data, callbacks=[Stop()], verbose=0)
    assert search.scored.sum(axis=1).tolist() == [40] * 3
    assert np.sum(search.held_out >= 0) == 40
    assert search.sigma_per_image.shape == (120,)


def test_tensorboard_takes_the_logs(tmp_path, data):
    board = keras.callbacks.TensorBoard(str(tmp_path), write_graph=False)
    optimizer = SigmaOptimizer(Saliency(small_model()), sigmas=[2])
    optimizer.search(*data, callbacks=[board], verbose=0)
    assert list(tmp_path.rglob("events*"))


def compiled():
    model = small_model()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def test_while_training(tmp_path, data):
    model, path = compiled(), tmp_path / "log.csv"
    follow = SigmaOptimizer(
        Saliency(model), sigmas=[2, 5], validation_data=(data[0][:20], data[1][:20]), every=2
    )
    history = model.fit(
        *data, epochs=5, verbose=0, callbacks=[follow, keras.callbacks.CSVLogger(str(path))]
    )
    assert follow.history["epoch"] == [0, 2, 4]
    rows = read(path)
    scores = [row["forgrad_faithfulness"] for row in rows]
    # repeated in between: NaN would be the best for ever to EarlyStopping
    assert scores[0] == scores[1]
    assert scores[2] == scores[3] != scores[4]
    for epoch, search in zip(follow.history["epoch"], follow.history["search"]):
        assert history.history["forgrad_faithfulness"][epoch] == search.best_score
        assert float(rows[epoch]["forgrad_sigma"]) == (
            search.best_sigma or search.settings["full_band"]
        )
    assert follow.result is follow.history["search"][-1]
    # the weights of then, not those of the first search
    first, last = follow.history["search"][0], follow.result
    assert first.settings["weights"] != last.settings["weights"]
    assert np.any(first.scores != last.scores)
    alone = SigmaOptimizer(Saliency(model), sigmas=[2, 5])
    expected = alone.search(data[0][:20], data[1][:20], verbose=0)
    np.testing.assert_allclose(last.scores, expected.scores, atol=1e-6)
    # a new training starts a new history
    model.fit(*data, epochs=1, verbose=0, callbacks=[follow])
    assert follow.history["epoch"] == [0]


def test_early_stopping_sees_the_objective(data):
    model = compiled()
    follow = SigmaOptimizer(Saliency(model), sigmas=[2], validation_data=(data[0][:9], data[1][:9]))
    model.optimizer.learning_rate = 0.0
    stopping = keras.callbacks.EarlyStopping("forgrad_faithfulness", mode="max", patience=2)
    history = model.fit(*data, epochs=9, verbose=0, callbacks=[follow, stopping])
    assert len(history.history["loss"]) == 3


def test_only_at_the_end_even_if_training_stops_early(data):
    model = compiled()
    model.optimizer.learning_rate = 0.0
    follow = SigmaOptimizer(
        Saliency(model), sigmas=[2], validation_data=(data[0][:9], data[1][:9]), every=None
    )
    stopping = keras.callbacks.EarlyStopping("loss", patience=1)
    model.fit(*data, epochs=9, verbose=0, callbacks=[follow, stopping])
    assert len(follow.history["epoch"]) == 1
    assert follow.history["epoch"][0] < 8


def test_explainers_with_weights_of_their_own_are_built_anew_or_refused(data):
    model = compiled()
    pair = data[0][:9], data[1][:9]
    copied = keras.models.clone_model(model)
    stale = SigmaOptimizer(Saliency(copied), sigmas=[2], validation_data=pair)
    with pytest.raises(ValueError, match="Give the class instead"):
        model.fit(*data, epochs=1, verbose=0, callbacks=[stale])
    for kind in (Saliency, GuidedBackprop):
        follow = SigmaOptimizer(kind, sigmas=[2], validation_data=pair)
        model.fit(*data, epochs=1, verbose=0, callbacks=[follow])
        fresh = SigmaOptimizer(kind, sigmas=[2], model=model).search(*pair, verbose=0)
        np.testing.assert_allclose(follow.result.scores, fresh.scores, atol=1e-6)


def test_two_optimizers_write_under_their_own_names(data):
    model, pair = compiled(), [data[0][:9], data[1][:9]]
    first = SigmaOptimizer(Saliency(model), sigmas=[2], validation_data=pair)
    second = SigmaOptimizer(
        GradientInput(model), "insertion", sigmas=[2], validation_data=pair, prefix="signed"
    )
    history = model.fit(*data, epochs=1, verbose=0, callbacks=[first, second]).history
    names = {"forgrad_sigma", "forgrad_faithfulness", "signed_sigma", "signed_insertion"}
    assert names <= set(history)


def test_a_diverged_epoch_does_not_end_the_training(data):
    model = compiled()
    pair = data[0][:9], data[1][:9]

    def overflowing(model, inputs, targets):
        return model(inputs)[:, 0] * np.nan

    follow = SigmaOptimizer(Saliency(model), sigmas=[2], validation_data=pair, operator=overflowing)
    with pytest.warns(UserWarning, match="No cutoff after epoch"):
        history = model.fit(*data, epochs=2, verbose=0, callbacks=[follow]).history
    assert np.isnan(history["forgrad_sigma"]).all()
    assert follow.result is None
    # nor where the only search comes after an early stop
    follow = SigmaOptimizer(
        Saliency(model), sigmas=[2], validation_data=pair, operator=overflowing, every=None
    )
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)
    with pytest.warns(UserWarning, match="No cutoff after epoch"):
        model.fit(*data, epochs=9, verbose=0, callbacks=[follow, stop])


def test_training_needs_validation_data(data):
    model = compiled()
    for mistake in ({"sigmas": [100]}, {"max_percentage_perturbed": 0.001}):
        recorder = Recorder()
        follow = SigmaOptimizer(Saliency(model), validation_data=data, every=None, **mistake)
        with pytest.raises(ValueError, match=next(iter(mistake))):
            model.fit(*data, verbose=0, callbacks=[recorder, follow])
        assert not recorder.logs
    with pytest.raises(ValueError, match="give a pair"):
        SigmaOptimizer(Saliency(model), validation_data=data[0])
    with pytest.raises(ValueError, match="validation_data"):
        model.fit(*data, verbose=0, callbacks=[SigmaOptimizer(Saliency(model))])
    with pytest.raises(ValueError, match="by `model=`"):
        SigmaOptimizer(Saliency).search(*data)


def test_nothing_of_a_training_is_left_for_a_search(data):
    model, pair = compiled(), (data[0][:9], data[1][:9])
    of_class = SigmaOptimizer(Saliency, sigmas=[2], validation_data=pair)
    model.fit(*data, epochs=1, verbose=0, callbacks=[of_class])
    with pytest.raises(ValueError, match="by `model=`"):
        of_class.search(*pair)
    other = small_model(seed=1)
    follow = SigmaOptimizer(Saliency(model), sigmas=[2], validation_data=pair)
    model.fit(*data, epochs=1, verbose=0, callbacks=[follow])
    follow.explainer = Saliency(other)
    search = follow.search(*pair, verbose=0)
    alone = SigmaOptimizer(Saliency(other), sigmas=[2]).search(*pair, verbose=0)
    np.testing.assert_array_equal(search.scores, alone.scores)


def test_progress_moves_within_a_group_and_says_where_it_resumes(
    tmp_path, monkeypatch, data, capsys
):
    """A group of 64 images is no single step: 378 passes an image may take minutes."""
    monkeypatch.setattr("xplique_forgrad.search._loop._PART_VALUES", 1)
    recorder, path = Recorder(), tmp_path / "search.checkpoint"
    optimizer = SigmaOptimizer(Saliency(small_model()), sigmas=[1, 2, 4, 8], strategy="exhaustive")

    class Stopped(Exception):
        pass

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 70:
                raise Stopped

    with pytest.raises(Stopped):
        optimizer.search(*data, callbacks=[Stop()], checkpoint=path, verbose=0)
    optimizer.search(*data, callbacks=[recorder], checkpoint=path, verbose=2)
    assert recorder.calls.count("batch") >= 120
    printed = capsys.readouterr().out
    nb_done = int(printed.split("Resumed at ")[1].split(" of 120 images")[0])
    assert 30 < nb_done < 120


def test_an_interrupt_says_how_to_go_on(tmp_path, data):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    optimizer, path = SigmaOptimizer(Saliency(small_model()), sigmas=[2]), tmp_path / "state"
    with pytest.raises(KeyboardInterrupt, match=f"its state is in {path}. Call search again"):
        optimizer.search(*data, callbacks=[Interrupt()], checkpoint=path, verbose=0)
    with pytest.raises(KeyboardInterrupt, match=r"nothing of it is kept.*checkpoint="):
        optimizer.search(*data, callbacks=[Interrupt()], verbose=0)
    found = optimizer.search(*data, checkpoint=path, verbose=0)
    expected = optimizer.search(*data, verbose=0)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_dataset_with_a_checkpoint_says_nothing_of_eager_execution(tmp_path, data, recwarn):
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(16)
    optimizer = SigmaOptimizer(Saliency(small_model()), sigmas=[2], activation="softmax")
    optimizer.search(dataset, checkpoint=tmp_path / "search.checkpoint", verbose=0)
    assert not [str(w.message) for w in recwarn if "eager" in str(w.message)]


def test_a_sigma_is_one_of_the_sigmas():
    with pytest.raises(TypeError, match="no option 'sigma'; did you mean 'sigmas'"):
        SigmaOptimizer(None, sigma=[2, 5])


def test_searches_in_a_row_leave_nothing_behind(data, caplog):
    """A graph that TensorFlow keeps for each search would fill the memory while training."""
    pair = data[0][:9], data[1][:9]
    models = []
    for _ in range(7):
        model = small_model()
        options = {"activation": "softmax", "report": ["mu_fidelity"], "nb_samples": 4}
        maps = np.ones((9, 16, 16, 1))
        SigmaOptimizer(None, model=model, **options).search(*pair, maps, verbose=0)
        models.append(weakref.ref(model))
    del model
    keras.backend.clear_session()
    gc.collect()
    assert sum(reference() is not None for reference in models) <= 1
    assert "retracing" not in caplog.text
