"""k-means over samples in several places: chunks, worker processes, devices."""

import os
import subprocess
import sys

import numpy as np
import pytest

import anyops
from tests.backends import Backend

SHARDED = """
import functools, jax, numpy as np, anyops
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

assert len(jax.devices()) == 8
rng = np.random.default_rng(0)
x = rng.integers(-50, 50, (4_000, 3)).astype(np.float32)  # whole numbers: sums are the same in every order
w = rng.integers(0, 3, 4_000).astype(np.float32)
centers = x[:7]
mesh = Mesh(np.asarray(jax.devices()), ("samples",))
start = jax.numpy.asarray(centers)
there, weights = (jax.device_put(a, NamedSharding(mesh, P("samples"))) for a in (x, w))

step = jax.jit(lambda x, c, w: anyops.kmeans_step(x, c, sample_weight=w))
eager = lambda x, c, w: anyops.kmeans_step(x, c, sample_weight=w)
for call in (step, eager):
    got, want = call(there, start, weights), call(*map(jax.numpy.asarray, (x, start, w)))
    assert len(got.labels.sharding.device_set) == 8
    np.testing.assert_array_equal(got.labels, want.labels)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-5)
    np.testing.assert_allclose(got.inertia, want.inertia, rtol=1e-5)

# The samples of each device by themselves, and one sum over all devices.
@jax.jit
@functools.partial(jax.shard_map, mesh=mesh, in_specs=(P("samples"), P(), P("samples")), out_specs=P())
def everywhere(x, c, w):
    return jax.lax.psum(anyops.kmeans_partial(x, c, sample_weight=w), "samples")

for a, b in zip(everywhere(there, start, weights), anyops.kmeans_partial(x, centers, sample_weight=w)):
    np.testing.assert_allclose(a, b, rtol=1e-5)

got = anyops.kmeans(there, 7, init=start, sample_weight=weights)
want = anyops.kmeans(x, 7, init=centers, sample_weight=w)
np.testing.assert_array_equal(got.labels, want.labels)
np.testing.assert_allclose(got.centers, want.centers, rtol=1e-4, atol=1e-4)
assert got.n_iter == want.n_iter
"""


def test_samples_on_eight_devices():
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", SHARDED]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def samples(n=3_000):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)) + 4 * rng.integers(0, 3, (n, 1))


def test_one_computation_an_iteration():
    da = pytest.importorskip("dask.array")
    dask = pytest.importorskip("dask")
    x = samples()
    lazy = da.from_array(x, chunks=(700, -1))

    def computations(max_iter, **options):
        count = []
        with dask.callbacks.Callback(start=lambda _: count.append(1)):
            result = anyops.kmeans(lazy, 8, max_iter=max_iter, tol=0, **options)
        assert result.n_iter == max_iter
        return len(count)

    for options in ({"init": x[:8]}, {"init": "k-means||", "seed": 0}):
        assert computations(9, **options) - computations(3, **options) == 6
        assert computations(3, **options) < 20


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_workers_of_a_cluster():
    distributed = pytest.importorskip("distributed")
    da = pytest.importorskip("dask.array")
    x, w = samples(), np.random.default_rng(1).random(3_000)
    want = anyops.kmeans(x, 8, init="k-means||", sample_weight=w, seed=0)
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        assert len(client.scheduler_info()["workers"]) == 2
        lazy, weights = da.from_array(x, chunks=(700, -1)), da.from_array(w, chunks=700)
        got = anyops.kmeans(lazy, 8, init="k-means||", sample_weight=weights, seed=0)
        np.testing.assert_array_equal(got.labels.compute(), want.labels)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-12, atol=1e-13)
    assert got.n_iter == want.n_iter
