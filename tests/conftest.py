import os
import re
from glob import glob

# before TensorFlow is imported: quiet where there is no GPU, untouched where there is one
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# the processes of the tests share a GPU
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
if not glob("/dev/nvidia[0-9]*"):
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import settings

matplotlib.use("agg")
# two devices for strategies to share, which TensorFlow wants to know before anything runs
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")


def name_of(options):
    """A name for a case that is the same in each process: functions go without their address."""
    return re.sub(r" at 0x\w+", "", str(options))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def classifier():
    from xplique_forgrad.demo import load_classifier

    return load_classifier()


@pytest.fixture(scope="session")
def images():
    from xplique_forgrad.demo import load_images

    return load_images(6, seed=5)


@pytest.fixture(scope="session")
def strategy():
    """Two replicas, on two logical devices of the processor."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs a command in a folder of its own; gives its exit code, output and errors."""
    from xplique_forgrad.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call
