"""The training step and the decoding of sirenc beside the same in JAX (jit, CPU).

    python3 -m pip install jax numpy
    python3 benches/jax_step.py [TOPOLOGY]     from the repository's root

Both sides run in turns on the same machine; the shortest times count.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

BATCH = 32768
WIDTH, HEIGHT = 768, 512
ROUNDS = 2


def network(topology):
    layers, features = map(int, topology.split("x"))
    sizes = [2] + [features] * layers + [3]
    rng = np.random.default_rng(0)
    weights = []
    for n, m in zip(sizes, sizes[1:]):
        bound = 30 / n if n == 2 else (6 / n) ** 0.5
        weights.append(
            (rng.uniform(-bound, bound, (m, n)).astype(np.float32), np.zeros((m, 1), np.float32))
        )
    return weights


def forward(weights, h):
    for w, b in weights[:-1]:
        h = jnp.sin(w @ h + b)
    w, b = weights[-1]
    return w @ h + b


@jax.jit
def training_step(weights, inputs, targets):
    return jax.value_and_grad(lambda w: jnp.mean((forward(w, inputs) - targets) ** 2))(weights)


@jax.jit
def decode(weights, inputs):
    unit = forward(weights, inputs) * 0.5 + 0.5
    return jnp.floor(jnp.clip(unit, 0, 1) * 255 + 0.5).astype(jnp.uint8).T


def shortest(function, *arguments):
    jax.block_until_ready(function(*arguments))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        best = min(best, time.perf_counter() - start)
    return best


def ours(topology):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "times.json")
        subprocess.run(
            ["cargo", "bench", "--bench", "speed", "--", f"(training_step|decode).*{topology}"],
            check=True, stdout=subprocess.DEVNULL, env={**os.environ, "SIRENC_BENCH_JSON": path},
        )
        with open(path) as file:
            return {row["name"]: row["seconds"] for row in json.load(file)}


def main():
    topology = sys.argv[1] if len(sys.argv) > 1 else "10x28"
    weights = network(topology)
    rng = np.random.default_rng(1)
    inputs = rng.uniform(-1, 1, (2, BATCH)).astype(np.float32)
    targets = rng.uniform(-1, 1, (3, BATCH)).astype(np.float32)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    points = np.stack([(2 * x + 1 - WIDTH) / WIDTH, (2 * y + 1 - HEIGHT) / WIDTH]).reshape(2, -1)
    step, picture, sirenc = float("inf"), float("inf"), {}
    for _ in range(ROUNDS):
        step = min(step, shortest(training_step, weights, inputs, targets))
        picture = min(picture, shortest(decode, weights, points))
        for name, seconds in ours(topology).items():
            sirenc[name] = min(seconds, sirenc.get(name, float("inf")))
    for name, jax_time, our in [
        (f"training step, {BATCH} pixels", step, sirenc.get("training")),
        (f"decode {WIDTH}x{HEIGHT}", picture, sirenc.get("decode")),
    ]:
        if our is not None:
            ratio = jax_time / our
            print(f"{topology} {name}: JAX {1e3 * jax_time:.1f} ms, "
                  f"sirenc {1e3 * our:.1f} ms, {ratio:.1f}x")


main()
