"""
Memory and time of search, metric and benchmark on 500 to 50,000 images that are read as a stream.

    python benchmarks/scale.py                          # 500 and 5,000 images: about 10 minutes
    python benchmarks/scale.py --images 500 5000 50000 --docs docs
    python benchmarks/scale.py --devices --docs docs    # what sharing among replicas costs or gains

Images of 224 x 224 x 3 are made by tf.data, each from its number, and never held. The model is
small, so that what is measured is what this package adds: with a larger model memory rises by what
its batch takes, and time by that of its passes. Each case runs in a process of its own. Passes
count the inputs that the model is given, in explaining too. Memory is the highest resident set of
the process, above what it had when TensorFlow was imported and the model was built.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZE, NB_CLASSES, BATCH = 224, 4, 32
# an image has so many cells of one colour along each side
NB_CELLS = 56
NB_FITTED = 256
MARKS = "<!-- figures of scale.py -->", "<!-- end of the figures -->"
SCORING = {"activation": "softmax", "baseline_mode": 0.5, "steps": 2, "batch_size": BATCH}


def images(number):
    """A dataset of images with one-hot targets: a square in the colour of its class, on noise."""
    import tensorflow as tf

    def make(index):
        label = index % NB_CLASSES
        seed = tf.stack([index, tf.zeros_like(index)])
        noise = tf.random.stateless_uniform((NB_CELLS, NB_CELLS, 3), seed)
        place = tf.random.stateless_uniform((2, 1), seed, 0, NB_CELLS - 24, tf.int32)
        inside = tf.abs(tf.range(NB_CELLS) - place - 12) < 12
        square = (inside[0][:, tf.newaxis] & inside[1])[..., tf.newaxis]
        colours = tf.constant([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
        cells = tf.where(square, 0.6 * tf.gather(colours, label) + 0.4 * noise, noise)
        picture = tf.image.resize(cells, (SIZE, SIZE), method="nearest")
        return picture, tf.one_hot(label, NB_CLASSES)

    return tf.data.Dataset.range(number).map(make).batch(BATCH)


def counting_model():
    """A small classifier, fitted for some seconds, and the number of inputs that it was given."""
    import keras
    import tensorflow as tf

    count = tf.Variable(0, dtype=tf.int64, trainable=False)

    class Counted(keras.layers.Layer):
        def call(self, inputs):
            count.assign_add(tf.shape(inputs, out_type=tf.int64)[0])
            return tf.identity(inputs)

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            Counted(),
            # smooth, so that no gradient is exactly 0 and maps hold no ties
            keras.layers.Conv2D(8, 8, strides=8, activation="softplus"),
            keras.layers.Conv2D(16, 3, strides=2, activation="softplus"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(NB_CLASSES),
        ],
        name="small",
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(images(NB_FITTED).cache(), epochs=15, shuffle=False, verbose=0)
    return model, count


def search(model, dataset, strategy):
    """Two cutoffs beside the unfiltered maps; the control is another image's map."""
    from xplique.attributions import Saliency

    from xplique_forgrad import SigmaOptimizer

    optimizer = SigmaOptimizer(Saliency(model), sigmas=[8, 32], strategy=strategy, **SCORING)
    return optimizer.search(dataset, verbose=0).verdict


def race(model, dataset):
    return search(model, dataset, "racing")


def exhaustive(model, dataset):
    return search(model, dataset, "exhaustive")


def metric(model, dataset):
    from xplique.attributions import Saliency

    from xplique_forgrad import Faithfulness, FORGrad

    scores = Faithfulness(model, dataset, **SCORING).evaluate_per_image(FORGrad(Saliency(model)))
    return f"{scores.mean():+.3f} on {len(scores)} images"


def mu_fidelity(model, dataset):
    from xplique.attributions import Saliency

    from xplique_forgrad import FORGrad, MuFidelity

    scoring = {name: value for name, value in SCORING.items() if name != "steps"}
    measure = MuFidelity(model, dataset, nb_samples=10, **scoring)
    return f"{measure.evaluate(FORGrad(Saliency(model))):+.3f}"


def benchmark(model, dataset):
    from xplique_forgrad.benchmark import run_benchmark

    return run_benchmark(
        *(model, dataset, None, ["Saliency"]),
        controls=["centre"],
        sigmas=[8, 32],
        mu_fidelity_samples=0,
        steps=SCORING["steps"],
        baselines=SCORING["baseline_mode"],
        activation=SCORING["activation"],
        batch_size=BATCH,
        verbose=0,
    ).verdict


PARTS = {
    "search, a race": race,
    "search, exhaustive": exhaustive,
    "Faithfulness of an explainer": metric,
    "MuFidelity of an explainer": mu_fidelity,
    "benchmark, a method and a control": benchmark,
}


def resident(line):
    """Memory of this process in bytes: VmRSS now, VmHWM at most since it was reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{line}:\s+(\d+)", status).group(1))


def measure(part, number):
    """A case, in this process."""
    import tensorflow as tf

    import xplique_forgrad  # noqa: F401

    tf.get_logger().setLevel("ERROR")
    model, count = counting_model()
    dataset = images(number)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    count.assign(0)
    start = time.perf_counter()
    verdict = PARTS[part](model, dataset)
    seconds = time.perf_counter() - start
    return {
        "part": part,
        "images": number,
        "passes": int(count),
        "seconds": seconds,
        "memory": resident("VmHWM") - before,
        "verdict": verdict,
    }


def measured_apart(part, number):
    """A case, in a process of its own."""
    command = [sys.executable, __file__, "--case", part, "--images", str(number)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def machine():
    names = re.findall(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy"))
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores; Python "
        f"{platform.python_version()}, {packages}"
    )


def table(cases):
    """The cases as Markdown."""
    lines = [
        "| part | images | model passes | seconds | ms per pass | ms per image | memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        milliseconds = 1000 * case["seconds"]
        lines.append(
            f"| {case['part']} | {case['images']:,} | {case['passes']:,} | {case['seconds']:.0f} | "
            f"{milliseconds / case['passes']:.2f} | {milliseconds / case['images']:.1f} | "
            f"{case['memory'] / 2**20:.0f} |"
        )
    return "\n".join([*lines, "", f"*{machine()}.*"])


def on_devices():
    """What devices.py prints, as Markdown."""
    command = [sys.executable, str(Path(__file__).with_name("devices.py"))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return f"```text\n{done.stdout.strip()}\n```\n\n*{machine()}.*"


def filled(page, text):
    """The page with the text between its marks."""
    begin, end = MARKS
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n\n{text}\n\n{end}", page, flags=re.S)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000], metavar="NUMBER")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, metavar="PART")
    parser.add_argument("--docs", type=Path, help="folder of the pages to write the table to")
    parser.add_argument("--devices", action="store_true", help="run devices.py in place of these")
    parser.add_argument("--case", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case, *arguments.images)))
        return
    if arguments.devices:
        text = on_devices()
        print(text)
        if arguments.docs is not None:
            path = arguments.docs / "how-to/several-devices.md"
            path.write_text(filled(path.read_text(encoding="utf-8"), text), encoding="utf-8")
        return
    cases = []
    for part in arguments.parts:
        for number in arguments.images:
            cases.append(measured_apart(part, number))
            print(json.dumps(cases[-1]), flush=True)
    print(f"\n{table(cases)}")
    if arguments.docs is not None:
        path = arguments.docs / "how-to/large-data.md"
        path.write_text(filled(path.read_text(encoding="utf-8"), table(cases)), encoding="utf-8")


if __name__ == "__main__":
    main()
