"""Celery with Redis as its broker and for its results, and two worker processes."""

import os
import sys
import tempfile

from systems import WORKERS, processes


class Celery:
    def __init__(self):
        port = processes.free_port()
        redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", tempfile.gettempdir()]
        processes.start_listening([*redis, "--save", "", "--appendonly", "no"], port)
        os.environ["PEERS_REDIS"] = f"redis://127.0.0.1:{port}/0"
        worker = [sys.executable, "-m", "celery", "-A", "systems.celery_tasks", "worker"]
        options = ["--concurrency", str(WORKERS), "--loglevel", "ERROR", "--without-gossip", "--without-mingle"]
        # As root it refuses to unpickle without this.
        processes.start(worker + options, env={**os.environ, "C_FORCE_ROOT": "1"})

        from systems import celery_tasks

        self.tasks = celery_tasks.TASKS
        self.tasks["nothing"].delay().get(timeout=processes.PATIENCE)

    def submit(self, function, *args):
        return self.tasks[function.__name__].delay(*args)

    def results(self, handles):
        return [handle.get() for handle in handles]
