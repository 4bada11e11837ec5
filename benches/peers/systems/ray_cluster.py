"""Ray: its services and two workers on this machine."""

import functools
import logging
import os
import tempfile

from systems import WORKERS

# Nothing is sent anywhere.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


class Ray:
    def __init__(self):
        import ray

        self.ray = ray
        ray.init(
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            object_store_memory=1 << 30,
            _temp_dir=tempfile.gettempdir(),
        )
        self.remote = functools.lru_cache(ray.remote)

    def submit(self, function, *args):
        return self.remote(function).remote(*args)

    def results(self, handles):
        return self.ray.get(handles)
