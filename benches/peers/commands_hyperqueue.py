"""Prints how many `/bin/true` a second HyperQueue runs on two cores: a server, a worker and a client on this machine.

    commands_hyperqueue.py JOBS

To be started with the Python of the environment that ./setup makes. Its client looks once a second whether all have ended.
"""

import sys
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main():
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client = cluster.client()

        def run(count):
            job = Job(max_fails=0)
            for number in range(count):
                job.program(["/bin/true", str(number)], stdout=None, stderr=None)
            client.wait_for_jobs([client.submit(job)])

        run(10)
        jobs = int(sys.argv[1])
        started = time.perf_counter()
        run(jobs)
        print(jobs / (time.perf_counter() - started), file=sys.stdout)


main()
