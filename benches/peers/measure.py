"""What is measured, the same way for every system. Each function yields (bench, value, unit)."""

import time

import work
from systems import processes

MIB = 1 << 20
# A measurement takes at least so many seconds, or as many jobs as are allowed.
ENOUGH = 0.8


def growing(one_round, at_most):
    """Does rounds of more and more jobs until one takes long enough; yields the jobs and seconds of the last one.

    The earlier ones warm the system up.
    """
    count = min(at_most, 20)
    while True:
        seconds = one_round(count)
        if seconds >= ENOUGH or count >= at_most:
            return count, seconds
        expected = int(count * 1.3 * ENOUGH / seconds)
        count = min(at_most, max(count * 2, min(count * 20, expected)))


def seconds_of(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def all_at_once(system, function, *args):
    """A round: submits so many jobs, then takes every result."""

    def one_round(count):
        return seconds_of(lambda: system.results([system.submit(function, *args) for _ in range(count)]))

    return one_round


def noop(system, jobs):
    count, seconds = growing(all_at_once(system, work.nothing), jobs)
    yield "noop", count / seconds, "jobs/s"


def noop_chunked(system, jobs):
    def one_round(count):
        started = time.perf_counter()
        total = sum(system.map_in_chunks(work.add_one, range(count)))
        seconds = time.perf_counter() - started
        assert total == count * (count + 1) // 2, "the sum is right"
        return seconds

    count, seconds = growing(one_round, jobs)
    yield "noop-chunked", count / seconds, "jobs/s"


def latency(system, jobs):
    times = []

    def one_by_one(count):
        times.clear()
        for n in range(count):
            started = time.perf_counter()
            system.results([system.submit(work.add_one, n)])
            times.append(time.perf_counter() - started)
        return sum(times)

    growing(one_by_one, jobs)
    times.sort()
    yield "latency", times[len(times) // 2] * 1e6, "us"
    yield "latency p99", times[len(times) * 99 // 100] * 1e6, "us"


def payload_rate(system, size, jobs, at_once):
    block = b"\x07" * size

    def one_round(count):
        def there_and_back(together):
            answers = system.results([system.submit(work.echo, block) for _ in range(together)])
            assert all(len(answer) == size for answer in answers), "what was sent comes back"

        if at_once:
            return seconds_of(lambda: there_and_back(count))
        return seconds_of(lambda: [there_and_back(1) for _ in range(count)])

    one_round(1)
    count, seconds = growing(one_round, jobs)
    return count * size / seconds / 1e6


def payload_bytes(system, jobs):
    yield "bytes", payload_rate(system, MIB, jobs, at_once=True), "MB/s each way"


def payload_large(system, jobs):
    yield "large", payload_rate(system, 64 * MIB, jobs, at_once=False), "MB/s each way"


def cpu(system, jobs):
    """How many times faster two workers are than this process alone; `jobs` times 1 ms of work at most."""
    system.results([system.submit(work.spin, 1) for _ in range(4)])
    for job_ms in (10, 1):
        steps = 20_000
        steps = max(1, int(steps * job_ms / 1e3 / seconds_of(lambda: work.spin(steps))))
        ratios, with_system = [], all_at_once(system, work.spin, steps)

        def one_round(count):
            alone = seconds_of(lambda: [work.spin(steps) for _ in range(count)])
            together = with_system(count)
            ratios.append(alone / together)
            return together

        growing(one_round, max(1, jobs // job_ms))
        yield f"cpu {job_ms} ms", ratios[-1], "x one thread"


def memory(system, jobs):
    """Bytes that a job takes while it waits behind others, in all processes of the system together."""
    system.results([system.submit(work.nothing) for _ in range(100)])
    in_the_way = [system.submit(work.sleep, 30) for _ in range(2)]
    time.sleep(1)
    before = processes.resident()
    waiting, started = [], time.perf_counter()
    while len(waiting) < jobs and time.perf_counter() - started < 3 * ENOUGH:
        waiting += [system.submit(work.nothing) for _ in range(100)]
    # What is on its way has arrived by then.
    time.sleep(1)
    each = (processes.resident() - before) / len(waiting)
    assert in_the_way
    yield "memory", each, "bytes"


BENCHES = {
    "noop": noop,
    "noop-chunked": noop_chunked,
    "latency": latency,
    "bytes": payload_bytes,
    "large": payload_large,
    "cpu": cpu,
    "memory": memory,
}
