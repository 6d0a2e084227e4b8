package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

func tlsConfig(o options) *tls.Config {
	if !o.TLS {
		return nil
	}
	return &tls.Config{InsecureSkipVerify: true}
}

func runSyncer(o options, logger *slog.Logger) error {
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: o.ServerID, Flavor: mysql.MySQLFlavor, Host: o.Host, Port: o.Port, User: o.User, Password: o.Password,
		TLSConfig: tlsConfig(o), HeartbeatPeriod: time.Second, ReadTimeout: 10 * time.Second, VerifyChecksum: true,
		TimestampStringLocation: time.UTC, UseDecimal: false, Logger: logger,
	})
	streamer, err := begin(syncer, o)
	if err != nil {
		return err
	}
	say(line{"e": "ready"})
	reader := reader{file: o.Start.File}
	for {
		event, err := streamer.GetEvent(context.Background())
		if err != nil {
			return err
		}
		if err := reader.take(event); err != nil {
			return err
		}
	}
}

func begin(syncer *replication.BinlogSyncer, o options) (*replication.BinlogStreamer, error) {
	if o.Mode != "gtid" {
		return syncer.StartSync(mysql.Position{Name: o.Start.File, Pos: o.Start.Pos})
	}
	set, err := mysql.ParseGTIDSet(mysql.MySQLFlavor, o.Start.GTID)
	if err != nil {
		return nil, err
	}
	return syncer.StartSyncGTID(set)
}

type reader struct {
	file string
	gno  int64
}

func (r *reader) take(event *replication.BinlogEvent) error {
	pos := event.Header.LogPos
	switch e := event.Event.(type) {
	case *replication.RotateEvent:
		if next := string(e.NextLogName); next != r.file {
			r.file = next
			say(line{"e": "rotate", "file": next})
		}
	case *replication.GTIDEvent:
		r.gno = e.GNO
	case *replication.XIDEvent:
		say(line{"e": "commit", "gno": r.gno, "file": r.file, "pos": pos})
	case *replication.QueryEvent:
		sql := string(e.Query)
		if sql == "BEGIN" {
			say(line{"e": "begin"})
		}
		if sql == "COMMIT" {
			say(line{"e": "commit", "gno": r.gno, "file": r.file, "pos": pos})
		}
		if !boundary(sql) {
			say(line{"e": "ddl", "db": string(e.Schema), "sql": sql, "gno": r.gno, "file": r.file, "pos": pos})
		}
	case *replication.RowsEvent:
		return rows(event.Header.EventType, e)
	case *replication.GenericEvent:
		if event.Header.EventType == replication.HEARTBEAT_EVENT || event.Header.EventType == replication.HEARTBEAT_LOG_EVENT_V2 {
			say(line{"e": "heartbeat"})
		}
	}
	return nil
}

// The collation of bytes that are no text.
const binary = 63

func rows(kind replication.EventType, e *replication.RowsEvent) error {
	op, every := "", 1
	switch kind {
	case replication.WRITE_ROWS_EVENTv2, replication.WRITE_ROWS_EVENTv1:
		op = "insert"
	case replication.UPDATE_ROWS_EVENTv2, replication.UPDATE_ROWS_EVENTv1:
		op, every = "update", 2
	case replication.DELETE_ROWS_EVENTv2, replication.DELETE_ROWS_EVENTv1:
		op = "delete"
	default:
		return fmt.Errorf("rows event %s", kind)
	}
	names := e.Table.ColumnNameString()
	enums, sets, collations := e.Table.EnumStrValueMap(), e.Table.SetStrValueMap(), e.Table.CollationMap()
	for i := every - 1; i < len(e.Rows); i += every {
		values := append([]any(nil), e.Rows[i]...)
		for column, of := range values {
			if text, ok := of.(string); ok && collations[column] == binary {
				values[column] = []byte(text)
			}
			number, ok := of.(int64)
			if labels := enums[column]; ok && labels != nil && number > 0 && int(number) <= len(labels) {
				values[column] = labels[number-1]
			}
			if labels := sets[column]; ok && labels != nil {
				text := ""
				for bit, label := range labels {
					if number&(1<<bit) != 0 {
						text += "," + label
					}
				}
				if text != "" {
					text = text[1:]
				}
				values[column] = text
			}
		}
		say(line{"e": "row", "op": op, "db": string(e.Table.Schema), "table": string(e.Table.Table), "row": row(names, values)})
	}
	return nil
}
