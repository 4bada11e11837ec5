"""Measures one thing on one system, and prints it as one JSON object a line: {"bench", "value", "unit"}.

    driver.py SYSTEM BENCH JOBS

SYSTEM is one of systems/__init__.py, BENCH one of measure.py. At most JOBS jobs are run; fewer if they take long. To be
started with the Python of the system's own environment, in which ./setup has installed it.
"""

import json
import os
import sys


def main():
    system_name, bench_name, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # Processes that a system starts find work.py too.
    here = os.path.dirname(os.path.abspath(__file__))
    paths = [here] + [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)

    import measure
    import systems

    system = systems.start(system_name)
    try:
        for name, value, unit in measure.BENCHES[bench_name](system, jobs):
            print(json.dumps({"bench": name, "value": value, "unit": unit}), flush=True)
    finally:
        system.stop()


if __name__ == "__main__":
    main()
