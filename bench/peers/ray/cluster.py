"""The rows of bench/cluster-rows.ts on real Ray: four nodes with one CPU each, made by ray.cluster_utils. One JSON line a row."""

import json
import statistics
import sys
import time

import numpy as np
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group

QUICK = "--quick" in sys.argv
FILTER = sys.argv[sys.argv.index("--filter") + 1] if "--filter" in sys.argv else ""
ROUNDS = 1 if QUICK else 3
GIB = 1024**3


def show(name, unit, values):
    print(json.dumps({"name": name, "unit": unit, "median": statistics.median(values)}), flush=True)


def row(name, unit, count, run, *other_names):
    if not any(FILTER in one for one in (name, *other_names)):
        return
    values = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        took = time.perf_counter() - began
        values.append(took if unit == "s" else count / took)
    for one in (name, *other_names):
        show(one, unit, values)


def rate(name, count, run):
    """As Ray's own microbenchmarks measure a rate: one second to warm up, then four times two seconds."""
    if FILTER not in name:
        return

    def per_second(seconds):
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            run()
            done += count
        return done / (time.perf_counter() - began)

    per_second(1)
    show(name, "/s", [per_second(2) for _ in range(1 if QUICK else 4)])


began = time.perf_counter()
cluster = Cluster(
    initialize_head=True,
    connect=True,
    head_node_args={"num_cpus": 1, "object_store_memory": int(1.5 * GIB), "resources": {"custom": 1}, "include_dashboard": False},
)
show("head started", "s", [time.perf_counter() - began])
began = time.perf_counter()
for i in (1, 2, 3):
    cluster.add_node(num_cpus=1, object_store_memory=int(1.5 * GIB), resources={"custom": 1, f"node{i}": 1}, wait=False)
cluster.wait_for_nodes()
show("3 nodes alive", "s", [time.perf_counter() - began])


@ray.remote
def noop():
    return 1


ray.get([noop.remote() for _ in range(100)])


def groups():
    made = [placement_group([{"custom": 0.001}, {"custom": 0.001}]) for _ in range(100)]
    for one in made:
        one.wait(timeout_seconds=30)
    for one in made:
        remove_placement_group(one)


rate("placement group create/removal", 100, groups)
row("many tasks", "/s", 10_000, lambda: ray.get([noop.remote() for _ in range(10_000)]))


@ray.remote(num_cpus=0)
class Actor:
    def ping(self):
        return 1


def actors():
    made = [Actor.remote() for _ in range(60)]
    ray.get([one.ping.remote() for one in made])
    for one in made:
        ray.kill(one)


row("many actors", "s", 60, actors)


@ray.remote(num_cpus=0)
def length_of(data):
    return len(data)


def broadcast():
    ref = ray.put(np.zeros(GIB, dtype=np.uint8))
    ray.get([length_of.options(resources={f"node{i}": 0.1}).remote(ref) for i in (1, 2, 3)])


# Between its nodes, Ray always goes through sockets.
row("1 GiB broadcast", "s", 1, broadcast, "1 GiB broadcast by sockets")


@ray.remote
def count_arguments(*all_of_them):
    return len(all_of_them)


refs = [ray.put(i) for i in range(10_000)]
row("10,000 object arguments", "s", 1, lambda: ray.get(count_arguments.remote(*refs)))


@ray.remote(num_returns=3000)
def many_returns():
    return list(range(3000))


row("3,000 returns", "s", 1, lambda: ray.get(many_returns.remote()))
row("get 10,000 objects", "s", 1, lambda: ray.get(refs))
ray.shutdown()
cluster.shutdown()
