"""What the systems are given to compute; the same as ours (benches/src/jobs.rs)."""

import time


def nothing():
    pass


def add_one(n):
    return n + 1


def echo(block):
    return block


def spin(steps):
    """Keeps a core busy: so many steps of a generator of random numbers."""
    state = 0x9E3779B9
    for _ in range(steps):
        state = (state * 0x5851F42D4C957F2D + 1) & 0xFFFFFFFFFFFFFFFF
    return state


def sleep(seconds):
    time.sleep(seconds)
