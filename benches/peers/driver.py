"""Measures one thing on one system, and prints it as one JSON object a line: {"bench", "value", "unit"}.

    driver.py SYSTEM BENCH JOBS

SYSTEM is one of systems/__init__.py, BENCH one of measure.py. At most JOBS jobs are run; fewer if they take long. To be
started with the Python of the system's own environment, in which ./setup has installed it.
"""

import json
import os
import signal
import sys
import tempfile
import traceback

# Seconds that a measurement may take.
LIMIT = 90


def measure_and_print(system_name, bench_name, jobs):
    import measure
    import systems

    system = systems.start(system_name)
    for name, value, unit in measure.BENCHES[bench_name](system, jobs):
        print(json.dumps({"bench": name, "value": value, "unit": unit}), flush=True)


def measure_in_child(arguments, home):
    """Returns the number of a process that measures and ends without asking the system to stop.

    Some take long to, complain that their processes are gone, or wait for jobs that nobody waits for any more.
    """
    child = os.fork()
    if child:
        return child
    os.environ["TMPDIR"] = tempfile.tempdir = home
    # It ends even where nobody is left who would end it.
    signal.alarm(LIMIT)
    try:
        measure_and_print(arguments[0], arguments[1], int(arguments[2]))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def main():
    # Processes that a system starts find work.py too.
    here = os.path.dirname(os.path.abspath(__file__))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))

    from systems import processes

    processes.adopt_orphans()
    home = tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True)
    child = measure_in_child(sys.argv[1:], home.name)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        print(f"Error: ended by {signal.Signals(-status).name}", file=sys.stderr)
    elif status > 1:
        print(f"Error: ended by itself with status {status}", file=sys.stderr)
    processes.end_descendants()
    home.cleanup()
    sys.exit(status and 1)


if __name__ == "__main__":
    main()
