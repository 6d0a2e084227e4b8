package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/canal"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

type handler struct {
	canal.DummyEventHandler
	file string
	gno  int64
}

func (h *handler) String() string { return "printer" }

func (h *handler) OnRotate(_ *replication.EventHeader, e *replication.RotateEvent) error {
	if next := string(e.NextLogName); next != h.file {
		h.file = next
		say(line{"e": "rotate", "file": next})
	}
	return nil
}

func (h *handler) OnGTID(_ *replication.EventHeader, e mysql.BinlogGTIDEvent) error {
	set, err := e.GTIDNext()
	if err != nil {
		return err
	}
	say(line{"e": "begin"})
	text := set.String()
	h.gno, err = strconv.ParseInt(text[strings.LastIndex(text, ":")+1:], 10, 64)
	return err
}

func (h *handler) OnXID(_ *replication.EventHeader, next mysql.Position) error {
	say(line{"e": "commit", "gno": h.gno, "file": next.Name, "pos": next.Pos})
	return nil
}

func (h *handler) OnDDL(_ *replication.EventHeader, next mysql.Position, e *replication.QueryEvent) error {
	sql := string(e.Query)
	say(line{"e": "ddl", "db": string(e.Schema), "sql": sql, "gno": h.gno, "file": next.Name, "pos": next.Pos})
	return nil
}

func (h *handler) OnRow(e *canal.RowsEvent) error {
	names := make([]string, 0, len(e.Table.Columns))
	for _, column := range e.Table.Columns {
		names = append(names, column.Name)
	}
	first, every := 0, 1
	if e.Action == canal.UpdateAction {
		first, every = 1, 2
	}
	for i := first; i < len(e.Rows); i += every {
		if len(e.Rows[i]) != len(names) {
			// canal reads the table's present columns; the row was written under others.
			say(line{"e": "skew", "db": e.Table.Schema, "table": e.Table.Name})
			continue
		}
		for column, of := range e.Rows[i] {
			if text, ok := of.(string); ok && strings.Contains(e.Table.Columns[column].RawType, "binary") {
				e.Rows[i][column] = []byte(text)
			}
		}
		say(line{"e": "row", "op": e.Action, "db": e.Table.Schema, "table": e.Table.Name, "row": row(names, e.Rows[i])})
	}
	return nil
}

func runCanal(o options, logger *slog.Logger) error {
	config := canal.NewDefaultConfig()
	config.Addr = fmt.Sprintf("%s:%d", o.Host, o.Port)
	config.User, config.Password, config.ServerID = o.User, o.Password, o.ServerID
	config.HeartbeatPeriod, config.ReadTimeout = time.Second, 10*time.Second
	config.Dump.ExecutionPath = ""
	config.TimestampStringLocation = time.UTC
	for _, table := range o.Only {
		config.IncludeTableRegex = append(config.IncludeTableRegex, "^"+strings.ReplaceAll(table, ".", "\\.")+"$")
	}
	config.TLSConfig = tlsConfig(o)
	config.Logger = logger
	c, err := canal.NewCanal(config)
	if err != nil {
		return err
	}
	c.SetEventHandler(&handler{file: o.Start.File})
	say(line{"e": "ready"})
	if o.Mode != "gtid" {
		return c.RunFrom(mysql.Position{Name: o.Start.File, Pos: o.Start.Pos})
	}
	set, err := mysql.ParseGTIDSet(mysql.MySQLFlavor, o.Start.GTID)
	if err != nil {
		return err
	}
	return c.StartFromGTID(set)
}
