"""The rows of `ray microbenchmark` on real Ray, with the method of src/cli/microbenchmark.ts. Prints one JSON line a row."""

import json
import statistics
import sys
import time

import numpy as np
import ray

QUICK = "--quick" in sys.argv
FILTER = sys.argv[sys.argv.index("--filter") + 1] if "--filter" in sys.argv else ""
WARM_UP_S, ROUNDS, ROUND_S = (0.3, 3, 0.5) if QUICK else (1, 4, 2)
# Long calls are shorter when it must be quick; src/cli/microbenchmark.ts divides by the same number.
SHRINK = 10 if QUICK else 1


def row(name, multiplier, prepare, unit="/s"):
    if FILTER not in name:
        return
    call = prepare()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < WARM_UP_S:
        call()
        count += 1
    step = count // 10 + 1
    rates = []
    for _ in range(ROUNDS):
        began, calls = time.perf_counter(), 0
        while time.perf_counter() - began < ROUND_S:
            for _ in range(step):
                call()
            calls += step
        rates.append(multiplier * calls / (time.perf_counter() - began))
    print(json.dumps({"name": name, "unit": unit, "median": statistics.median(rates)}), flush=True)


@ray.remote
def small_value():
    return "ok"


@ray.remote
def do_put_small():
    for _ in range(100):
        ray.put(0)


@ray.remote
def do_put():
    data = np.zeros(10 * 1024 * 1024, dtype=np.int64)
    for _ in range(10):
        ray.put(data)


@ray.remote
class Actor:
    def small_value(self):
        return "ok"

    def small_value_arg(self, _):
        return "ok"

    def submit_batch(self, n):
        ray.get([small_value.remote() for _ in range(n)])


@ray.remote
class AsyncActor:
    async def small_value(self):
        return "ok"

    async def small_value_with_arg(self, _):
        return "ok"


@ray.remote(num_cpus=0)
class Client:
    def __init__(self, servers):
        self.servers = servers

    def small_value_batch(self, n):
        ray.get([server.small_value.remote() for server in self.servers for _ in range(n)])

    def small_value_batch_arg(self, n):
        ref = ray.put(0)
        ray.get([server.small_value_arg.remote(ref) for server in self.servers for _ in range(n)])


@ray.remote
def work(actors, n):
    ray.get([actors[i % len(actors)].small_value.remote() for i in range(n)])


def main():
    began = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    started = time.perf_counter() - began
    began = time.perf_counter()
    ray.get(small_value.remote())
    first = time.perf_counter() - began
    if not FILTER:
        print(json.dumps({"name": "init", "unit": "s", "median": started}), flush=True)
        print(json.dumps({"name": "first task", "unit": "s", "median": first}), flush=True)
    ref = ray.put(0)
    row("single client get calls (Plasma Store)", 1, lambda: lambda: ray.get(ref))
    row("single client put calls (Plasma Store)", 1, lambda: lambda: ray.put(0))
    row("multi client put calls (Plasma Store)", 1000, lambda: lambda: ray.get([do_put_small.remote() for _ in range(10)]))
    large = np.zeros(100 * 1024 * 1024, dtype=np.int64)
    row("single client put gigabytes", 0.8, lambda: lambda: ray.put(large), "GB/s")
    row("single client tasks and get batch", 1, lambda: lambda: ray.get([small_value.remote() for _ in range(1000)]))
    row("multi client put gigabytes", 8, lambda: lambda: ray.get([do_put.remote() for _ in range(10)]), "GB/s")

    def many_refs():
        outer = ray.put([ray.put(1) for _ in range(10000)])
        return lambda: ray.get(outer)

    row("single client get object containing 10k refs", 1, many_refs)

    def wait_all():
        rest = [small_value.remote() for _ in range(1000)]
        while rest:
            _, rest = ray.wait(rest)

    row("single client wait 1k refs", 1, lambda: wait_all)
    row("single client tasks sync", 1, lambda: lambda: ray.get(small_value.remote()))
    row("single client tasks async", 1000, lambda: lambda: ray.get([small_value.remote() for _ in range(1000)]))

    def multi_client():
        actors = [Actor.options(num_cpus=0).remote() for _ in range(4)]
        return lambda: ray.get([actor.submit_batch.remote(10000 // SHRINK) for actor in actors])

    row("multi client tasks async", 40000 // SHRINK, multi_client)

    def one(kind, **options):
        return kind.options(num_cpus=0, **options).remote()

    def sync_calls(kind):
        actor = one(kind)
        return lambda: ray.get(actor.small_value.remote())

    def batch_calls(kind, **options):
        actor = one(kind, **options)
        return lambda: ray.get([actor.small_value.remote() for _ in range(1000)])

    def fan_out(kind):
        client = Client.remote([one(kind)])
        return lambda: ray.get(client.small_value_batch.remote(5000 // SHRINK))

    def many_to_many(kind):
        actors = [one(kind)]
        return lambda: ray.get([work.remote(actors, 5000 // SHRINK) for _ in range(4)])

    row("1:1 actor calls sync", 1, lambda: sync_calls(Actor))
    row("1:1 actor calls async", 1000, lambda: batch_calls(Actor))
    row("1:1 actor calls concurrent", 1000, lambda: batch_calls(Actor, max_concurrency=16))
    row("1:n actor calls async", 5000 // SHRINK, lambda: fan_out(Actor))
    row("n:n actor calls async", 20000 // SHRINK, lambda: many_to_many(Actor))

    def with_arg():
        client = Client.remote([one(Actor)])
        return lambda: ray.get(client.small_value_batch_arg.remote(1000))

    row("n:n actor calls with arg async", 1000, with_arg)
    row("1:1 async-actor calls sync", 1, lambda: sync_calls(AsyncActor))
    row("1:1 async-actor calls async", 1000, lambda: batch_calls(AsyncActor))

    def async_args():
        actor = one(AsyncActor)
        return lambda: ray.get([actor.small_value_with_arg.remote(i) for i in range(1000)])

    row("1:1 async-actor calls with args async", 1000, async_args)
    row("1:n async-actor calls async", 5000 // SHRINK, lambda: fan_out(AsyncActor))
    row("n:n async-actor calls async", 20000 // SHRINK, lambda: many_to_many(AsyncActor))
    began = time.perf_counter()
    ray.shutdown()
    if not FILTER:
        print(json.dumps({"name": "shutdown", "unit": "s", "median": time.perf_counter() - began}), flush=True)


main()
