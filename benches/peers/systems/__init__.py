"""The systems that are measured, each with two workers on this machine.

A system has submit(function, *args) -> handle, results(handles) -> list and, where it knows chunks,
map_in_chunks(function, inputs) -> iterable. Its module is imported only when it is measured: each has an environment of
its own. Whatever processes it starts are ended by driver.py.
"""

import importlib

WORKERS = 2

# Name: module of this package, function in it, its arguments.
SYSTEMS = {
    "pp-local": ("parallel_python", "local", ("pp",)),
    "pp-tcp": ("parallel_python", "through_ppserver", ("pp", ["-m", "pp.cli"])),
    "ppft-local": ("parallel_python", "local", ("ppft",)),
    "ppft-tcp": ("parallel_python", "through_ppserver", ("ppft", ["-m", "ppft.server"])),
    "concurrent-futures": ("pools", "ConcurrentFutures", ()),
    "multiprocessing": ("pools", "Multiprocessing", ()),
    "dask": ("dask_cluster", "Dask", ()),
    "ray": ("ray_cluster", "Ray", ()),
    "celery": ("celery_redis", "Celery", ()),
}


def start(name):
    module, function, arguments = SYSTEMS[name]
    return getattr(importlib.import_module(f"systems.{module}"), function)(*arguments)
