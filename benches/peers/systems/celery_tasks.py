"""The tasks of work.py as Celery's worker and its client know them."""

import os

from celery import Celery

import work

REDIS = os.environ["PEERS_REDIS"]
app = Celery("peers", broker=REDIS, backend=REDIS)
app.conf.update(
    # JSON has no bytes.
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle", "json"],
    worker_hijack_root_logger=False,
)
TASKS = {
    function.__name__: app.task(name=f"work.{function.__name__}")(function)
    for function in (work.nothing, work.add_one, work.echo, work.spin, work.sleep)
}
