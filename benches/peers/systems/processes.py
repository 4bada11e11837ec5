"""Processes that a system needs beside it, and their end."""

import ctypes
import os
import signal
import socket
import subprocess
import time

PATIENCE = 30.0
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Makes every process that is started from here on a descendant for good, even once its parent has ended."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, **options):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)


def start_listening(command, port):
    """Starts a server and waits until it listens on a loopback port."""
    server = start(command)

    def listens():
        if server.poll() is not None:
            raise RuntimeError(f"{command[0]} ended with status {server.returncode} before it listened")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, f"{command[0]} to listen")


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE:.0f} s for {what}")
        time.sleep(0.02)


def descendants():
    """The processes that this one has started, and those that they have."""
    children = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                parent = int(stat.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(pid))
    found, waiting = [], [os.getpid()]
    while waiting:
        started = children.get(waiting.pop(), [])
        found += started
        waiting += started
    return found


def resident():
    """Memory in use by this process and its descendants, in bytes; what they share is counted in parts (Pss)."""
    total = 0
    for pid in [os.getpid(), *descendants()]:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024
        except (OSError, StopIteration):
            continue
    return total


def end_descendants():
    """Kills them all, but for those that clean up after the others, which end by themselves."""
    while True:
        living = [pid for pid in descendants() if not cleans_up(pid)]
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                # It has ended, or its parent has yet to.
                continue
        if not living:
            return


def cleans_up(pid):
    """Whether this is the process of multiprocessing that removes semaphores when all others have ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return b"resource_tracker" in command.read()
    except OSError:
        return False
