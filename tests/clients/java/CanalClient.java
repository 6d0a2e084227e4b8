import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.JSONObject;
import com.alibaba.otter.canal.common.AbstractCanalLifeCycle;
import com.alibaba.otter.canal.common.alarm.LogAlarmHandler;
import com.alibaba.otter.canal.filter.aviater.AviaterRegexFilter;
import com.alibaba.otter.canal.parse.inbound.mysql.MysqlEventParser;
import com.alibaba.otter.canal.parse.inbound.mysql.tsdb.MemoryTableMeta;
import com.alibaba.otter.canal.parse.inbound.mysql.tsdb.TableMetaTSDB;
import com.alibaba.otter.canal.parse.inbound.mysql.tsdb.TableMetaTSDBFactory;
import com.alibaba.otter.canal.parse.index.MemoryLogPositionManager;
import com.alibaba.otter.canal.parse.support.AuthenticationInfo;
import com.alibaba.otter.canal.protocol.CanalEntry;
import com.alibaba.otter.canal.protocol.position.EntryPosition;
import com.alibaba.otter.canal.sink.CanalEventSink;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Prints what Canal's MySQL parser makes of a stream. */
public final class CanalClient {
    private static final String DESTINATION = "bank";

    public static void main(String[] args) throws Exception {
        JSONObject options = JSON.parseObject(args[0]);
        JSONObject start = options.getJSONObject("start");
        boolean gtid = "gtid".equals(options.getString("mode"));
        MysqlEventParser parser = new MysqlEventParser();
        parser.setDestination(DESTINATION);
        parser.setSlaveId(options.getLongValue("server_id"));
        parser.setDetectingEnable(false);
        parser.setParallel(false);
        parser.setIsGTIDMode(gtid);
        parser.setConnectionCharset("UTF-8");
        parser.setEventFilter(new AviaterRegexFilter(options.getString("database") + "\\..*"));
        String leaveOut = String.join(",", options.getJSONArray("leave_out").toList(String.class));
        // An empty one would match everything.
        if (!leaveOut.isEmpty()) {
            parser.setEventBlackFilter(new AviaterRegexFilter(leaveOut.replace(".", "\\.")));
        }
        parser.setMasterInfo(new AuthenticationInfo(
            new InetSocketAddress(options.getString("host"), options.getIntValue("port")),
            options.getString("user"), options.getString("password"), ""));
        EntryPosition position = new EntryPosition(start.getString("file"), start.getLong("pos"));
        if (gtid) {
            position = new EntryPosition();
            position.setGtid(start.getString("gtid"));
            // Wanted beside a GTID set when the table history is on; the set is what counts.
            position.setTimestamp(1L);
        }
        parser.setMasterPosition(position);
        MemoryLogPositionManager positions = new MemoryLogPositionManager();
        positions.start();
        parser.setLogPositionManager(positions);
        parser.setAlarmHandler(new LogAlarmHandler());
        parser.setTransactionSize(1);
        parser.setEventSink(new Printer());
        Path history = Path.of(options.getString("state"), "ddl.jsonl");
        parser.setTableMetaTSDBFactory(new TableMetaTSDBFactory() {
            @Override
            public TableMetaTSDB build(String destination, String springXml) {
                return new History(history);
            }

            @Override
            public void destory(String destination) {}
        });
        // Set as system properties for stores that are not used here; they must not be null.
        parser.setTsdbJdbcUrl("");
        parser.setTsdbJdbcUserName("");
        parser.setTsdbJdbcPassword("");
        parser.setEnableTsdb(true);
        parser.start();
        Line.of("ready").say();
        Thread.currentThread().join();
    }

    /** Canal's table history ("tsdb") of what the stream said, kept in a file: its own stores need H2 or MySQL and the server's Spring files. */
    private static final class History extends MemoryTableMeta {
        private final Path file;

        History(Path file) {
            this.file = file;
            try {
                if (Files.exists(file)) {
                    for (String line : Files.readAllLines(file)) {
                        JSONObject statement = JSON.parseObject(line);
                        super.apply(null, statement.getString("db"), statement.getString("sql"), null);
                    }
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        @Override
        public boolean apply(EntryPosition position, String schema, String ddl, String extra) {
            try {
                String line = new JSONObject().fluentPut("db", schema).fluentPut("sql", ddl).toJSONString() + "\n";
                Files.writeString(file, line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            return super.apply(position, schema, ddl, extra);
        }

        @Override
        public boolean rollback(EntryPosition position) {
            return true;
        }
    }

    private static final class Printer extends AbstractCanalLifeCycle implements CanalEventSink<List<CanalEntry.Entry>> {
        @Override
        public boolean sink(List<CanalEntry.Entry> entries, InetSocketAddress from, String destination) {
            try {
                for (CanalEntry.Entry entry : entries) {
                    take(entry);
                }
                return true;
            } catch (Exception e) {
                e.printStackTrace();
                Runtime.getRuntime().halt(3);
                return false;
            }
        }

        @Override
        public void interrupt() {}
    }

    private static void take(CanalEntry.Entry entry) throws Exception {
        CanalEntry.Header header = entry.getHeader();
        if (entry.getEntryType() == CanalEntry.EntryType.TRANSACTIONBEGIN) {
            Line.of("begin").say();
        } else if (entry.getEntryType() == CanalEntry.EntryType.TRANSACTIONEND) {
            CanalEntry.TransactionEnd end = CanalEntry.TransactionEnd.parseFrom(entry.getStoreValue());
            // The service's XIDs are its transactions' numbers.
            place(Line.of("commit"), header, Long.parseLong(end.getTransactionId())).say();
        } else if (entry.getEntryType() == CanalEntry.EntryType.ROWDATA) {
            CanalEntry.RowChange change = CanalEntry.RowChange.parseFrom(entry.getStoreValue());
            if (change.getIsDdl()) {
                place(Line.of("ddl").with("db", change.getDdlSchemaName()).with("sql", change.getSql()), header, 0).say();
                return;
            }
            for (CanalEntry.RowData row : change.getRowDatasList()) {
                boolean delete = change.getEventType() == CanalEntry.EventType.DELETE;
                Line.of("row").with("op", change.getEventType().name().toLowerCase())
                    .with("db", header.getSchemaName()).with("table", header.getTableName())
                    .with("row", image(delete ? row.getBeforeColumnsList() : row.getAfterColumnsList())).say();
            }
        }
    }

    private static Line place(Line line, CanalEntry.Header header, long gno) {
        return line.with("gno", gno).with("file", header.getLogfileName())
            .with("pos", header.getLogfileOffset() + header.getEventLength());
    }

    private static Map<String, Object> image(List<CanalEntry.Column> columns) {
        Map<String, Object> image = new LinkedHashMap<>();
        for (CanalEntry.Column column : columns) {
            image.put(column.getName(), column.getIsNull() ? null : value(column));
        }
        return image;
    }

    /** Canal writes bytes as text, one character a byte. */
    private static Object value(CanalEntry.Column column) {
        String type = column.getMysqlType().toLowerCase();
        if (type.contains("binary") || type.contains("blob") || type.startsWith("point") || type.startsWith("geometry")) {
            return Line.hex(column.getValue().getBytes(StandardCharsets.ISO_8859_1));
        }
        return column.getValue();
    }
}
