"""What comes with Python: concurrent.futures.ProcessPoolExecutor and multiprocessing.Pool."""

import concurrent.futures
import multiprocessing

from systems import WORKERS


class ConcurrentFutures:
    def __init__(self):
        self.pool = concurrent.futures.ProcessPoolExecutor(WORKERS)

    def submit(self, function, *args):
        return self.pool.submit(function, *args)

    def results(self, handles):
        return [handle.result() for handle in handles]

    def map_in_chunks(self, function, inputs):
        return self.pool.map(function, inputs, chunksize=5_000)


class Multiprocessing:
    def __init__(self):
        self.pool = multiprocessing.Pool(WORKERS)

    def submit(self, function, *args):
        return self.pool.apply_async(function, args)

    def results(self, handles):
        return [handle.get() for handle in handles]

    def map_in_chunks(self, function, inputs):
        return self.pool.map(function, inputs, chunksize=1_000)
