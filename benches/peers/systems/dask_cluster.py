"""Dask: its scheduler and two worker processes of one thread each, over loopback TCP."""

import logging

from systems import WORKERS


class Dask:
    def __init__(self):
        import dask
        from distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.ERROR)
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
        self.cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        )
        self.client = Client(self.cluster)

    def submit(self, function, *args):
        return self.client.submit(function, *args, pure=False)

    def results(self, handles):
        return self.client.gather(handles)
