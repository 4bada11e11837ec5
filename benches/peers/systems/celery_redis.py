"""Celery with Redis as its broker and for its results, and two worker processes."""

import os
import sys
import tempfile

from systems import WORKERS, processes


class Celery:
    def __init__(self):
        port = processes.free_port()
        self.home = tempfile.TemporaryDirectory()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", self.home.name]
        self.servers = [processes.start_listening([*command, "--save", "", "--appendonly", "no"], port)]
        try:
            os.environ["PEERS_REDIS"] = f"redis://127.0.0.1:{port}/0"
            self.start_worker()
        except BaseException:
            self.stop()
            raise

    def start_worker(self):
        import subprocess

        from systems import celery_tasks

        self.tasks = celery_tasks.TASKS
        # Root is told that pickle is dangerous; Celery refuses without this.
        environment = {**os.environ, "C_FORCE_ROOT": "1"}
        command = [sys.executable, "-m", "celery", "-A", "systems.celery_tasks", "worker"]
        options = ["--concurrency", str(WORKERS), "--loglevel", "ERROR", "--without-gossip", "--without-mingle"]
        worker = subprocess.Popen(
            command + options, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self.servers.insert(0, worker)
        celery_tasks.TASKS["nothing"].delay().get(timeout=processes.PATIENCE)

    def submit(self, function, *args):
        return self.tasks[function.__name__].delay(*args)

    def results(self, handles):
        return [handle.get() for handle in handles]

    def stop(self):
        # The worker would wait for the jobs that it runs.
        for server in self.servers:
            processes.end(server)
        self.home.cleanup()
