"""pp and its fork ppft, which have the same interface: local workers, or a ppserver of theirs over loopback TCP."""

import importlib
import sys

from systems import WORKERS, processes

SECRET = "known to this bench only"


def local(package):
    return ParallelPython(importlib.import_module(package).Server(ncpus=WORKERS, secret=SECRET))


def through_ppserver(package, command):
    port = processes.free_port()
    options = ["-i", "127.0.0.1", "-p", str(port), "-w", str(WORKERS), "-s", SECRET]
    processes.start_listening([sys.executable, *command, *options], port)
    address = f"127.0.0.1:{port}"
    server = importlib.import_module(package).Server(ncpus=0, ppservers=(address,), secret=SECRET)
    processes.wait_until(
        lambda: server.get_active_nodes().get(address) == WORKERS, f"{package} to use its ppserver"
    )
    return ParallelPython(server)


class ParallelPython:
    def __init__(self, server):
        self.server = server

    def submit(self, function, *args):
        modules = ("time",) if function.__name__ == "sleep" else ()
        return self.server.submit(function, args, modules=modules)

    def results(self, handles):
        return [handle() for handle in handles]
