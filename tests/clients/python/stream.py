"""Prints what python-mysql-replication reads, one JSON object a line (see ../README.md)."""

import datetime
import decimal
import json
import os
import signal
import sys

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.constants import FIELD_TYPE
from pymysqlreplication.event import GtidEvent, HeartbeatLogEvent, QueryEvent, RotateEvent, XidEvent
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent


def value(of):
    if isinstance(of, (bytes, bytearray)):
        return {"hex": bytes(of).hex()}
    if isinstance(of, decimal.Decimal):
        return str(of)
    if isinstance(of, datetime.timedelta):
        micros = of // datetime.timedelta(microseconds=1)
        sign, micros = ("-", -micros) if micros < 0 else ("", micros)
        seconds, micros = divmod(micros, 1_000_000)
        return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"
    if isinstance(of, (datetime.datetime, datetime.date)):
        return of.isoformat(sep=" ") if isinstance(of, datetime.datetime) else of.isoformat()
    if isinstance(of, (set, frozenset)):
        return ",".join(sorted(of))
    return of


def document(of):
    """A JSON column: its keys and strings come as bytes."""
    if isinstance(of, dict):
        return {document(key): document(item) for key, item in of.items()}
    if isinstance(of, list):
        return [document(item) for item in of]
    return of.decode() if isinstance(of, bytes) else of


def row(values, bits):
    out = {}
    for name, of in values.items():
        if name in bits and of is not None:
            out[name] = int(of, 2)
            continue
        out[name] = {"json": document(of)} if isinstance(of, (dict, list)) else value(of)
    return out


def say(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main():
    options = json.loads(sys.argv[1])
    start = options["start"]
    how = {"auto_position": start["gtid"]} if start.get("gtid") else {}
    if not how:
        how = {"log_file": start["file"], "log_pos": start["pos"], "resume_stream": True}
    stream = BinLogStreamReader(
        connection_settings={
            "host": options["host"],
            "port": options["port"],
            "user": options["user"],
            "passwd": options["password"],
        },
        server_id=options["server_id"],
        slave_heartbeat=1,
        blocking=True,
        only_events=[GtidEvent, QueryEvent, XidEvent, RotateEvent, HeartbeatLogEvent,
                     WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        **how,
    )
    say(e="ready")
    gno = 0
    for event in stream:
        place = {"gno": gno, "file": stream.log_file, "pos": stream.log_pos}
        if isinstance(event, GtidEvent):
            gno = int(event.gtid.rsplit(":", 1)[1])
        elif isinstance(event, HeartbeatLogEvent):
            say(e="heartbeat")
        elif isinstance(event, RotateEvent):
            say(e="rotate", file=event.next_binlog)
        elif isinstance(event, XidEvent):
            say(e="commit", **place)
        elif isinstance(event, QueryEvent):
            text = event.query if isinstance(event.query, str) else event.query.decode()
            if text == "BEGIN":
                say(e="begin")
                continue
            if text == "COMMIT":
                say(e="commit", **place)
                continue
            schema = event.schema if isinstance(event.schema, str) else event.schema.decode()
            say(e="ddl", db=schema, sql=text, **place)
        else:
            kind = {WriteRowsEvent: "insert", UpdateRowsEvent: "update", DeleteRowsEvent: "delete"}[type(event)]
            bits = {column.name for column in event.columns if column.type == FIELD_TYPE.BIT}
            for change in event.rows:
                values = change["after_values"] if kind == "update" else change["values"]
                say(e="row", op=kind, db=event.schema, table=event.table, row=row(values, bits))


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
main()
