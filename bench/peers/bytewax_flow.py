"""A threshold and a one-minute aggregate for each device over recorded readings.

Reads lines of JSON from a file and prints one object: readings, alerts (a
device's readings begin to be above the limit), windows, seconds, CPU seconds.
"""

import json
import resource
import sys
import time
from datetime import datetime, timedelta, timezone

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.testing import TestingSink, run_main

LIMIT = 85.0
counts = {"readings": 0}


def parse(line):
    event = json.loads(line)
    counts["readings"] += 1
    when = datetime.fromtimestamp(event["ts"] / 1000.0, timezone.utc)
    return (event["device"], (when, event["value"]))


def crossing(was_above, reading):
    above = reading[1] > LIMIT
    return above, (reading if above and not was_above else None)


def folder(acc, reading):
    value = reading[1]
    if acc is None:
        return (value, value, value, 1)
    return (acc[0] + value, min(acc[1], value), max(acc[2], value), acc[3] + 1)


def merger(a, b):
    if a is None or b is None:
        return a or b
    return (a[0] + b[0], min(a[1], b[1]), max(a[2], b[2]), a[3] + b[3])


alerts, windows = [], []
flow = Dataflow("peer")
lines = op.input("in", flow, FileSource(sys.argv[1]))
keyed = op.map("parse", lines, parse)
crossed = op.filter("is_alert", op.stateful_map("crossing", keyed, crossing), lambda kv: kv[1] is not None)
op.output("alerts", crossed, TestingSink(alerts))
clock = EventClock(ts_getter=lambda reading: reading[0], wait_for_system_duration=timedelta(0))
windower = TumblingWindower(length=timedelta(minutes=1), align_to=datetime(2026, 1, 1, tzinfo=timezone.utc))
folded = win.fold_window("minutes", keyed, clock, windower, lambda: None, folder, merger)
op.output("windows", folded.down, TestingSink(windows))

began = time.monotonic()
used = resource.getrusage(resource.RUSAGE_SELF)
before = used.ru_utime + used.ru_stime
run_main(flow)
used = resource.getrusage(resource.RUSAGE_SELF)
print(
    json.dumps(
        {
            "readings": counts["readings"],
            "alerts": len(alerts),
            "windows": len(windows),
            "seconds": time.monotonic() - began,
            "cpu_s": used.ru_utime + used.ru_stime - before,
        }
    )
)
