// Prints what go-mysql reads, one JSON object a line (see ../README.md): through its syncer, or through its canal package when the
// option "api" says so.
package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

type start struct {
	File string `json:"file"`
	Pos  uint32 `json:"pos"`
	GTID string `json:"gtid"`
}

type options struct {
	API      string `json:"api"`
	Host     string `json:"host"`
	Port     uint16 `json:"port"`
	User     string `json:"user"`
	Password string `json:"password"`
	ServerID uint32 `json:"server_id"`
	Mode     string `json:"mode"`
	TLS      bool   `json:"tls"`
	Start    start  `json:"start"`
	// The tables that are wanted; all when there is none.
	Only []string `json:"only"`
}

type line map[string]any

var out = json.NewEncoder(os.Stdout)

func say(l line) {
	if err := out.Encode(l); err != nil {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// What JSON can carry: bytes that are no text become {"hex": …}, documents {"json": …}.
func value(of any) any {
	switch of := of.(type) {
	case []byte:
		return line{"hex": hex.EncodeToString(of)}
	case string:
		if !utf8.ValidString(of) {
			return line{"hex": hex.EncodeToString([]byte(of))}
		}
		return of
	case time.Time:
		return of.UTC().Format("2006-01-02 15:04:05.000000")
	case float32:
		return float64(of)
	default:
		return of
	}
}

func row(names []string, values []any) line {
	l := line{}
	for i, of := range values {
		name := fmt.Sprintf("@%d", i+1)
		if i < len(names) {
			name = names[i]
		}
		l[name] = value(of)
	}
	return l
}

// The statement is no change of the schema but the beginning or the end of a transaction.
func boundary(sql string) bool {
	return sql == "BEGIN" || sql == "COMMIT" || strings.HasPrefix(sql, "XA ")
}

func main() {
	var o options
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		fail(err)
	}
	out.SetEscapeHTML(false)
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if o.API == "canal" {
		fail(runCanal(o, logger))
	}
	fail(runSyncer(o, logger))
}
