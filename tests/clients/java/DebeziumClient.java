import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.HexFormat;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.StringJoiner;
import org.apache.kafka.connect.runtime.WorkerConfig;
import org.apache.kafka.connect.runtime.standalone.StandaloneConfig;
import org.apache.kafka.connect.storage.MemoryOffsetBackingStore;

/** Prints what Debezium's MySQL connector makes of a stream, run in its embedded engine. It keeps its offsets and its schema history itself. */
public final class DebeziumClient {
    private static final String PREFIX = "bank";
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        JsonNode options = JSON.readTree(args[0]);
        File state = new File(options.get("state").asText());
        File offsets = new File(state, "offsets.dat");
        DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(Json.class)
            .using(properties(options, state, offsets))
            .using((DebeziumEngine.CompletionCallback) (success, message, error) -> {
                System.err.println("engine ended: " + message);
                if (error != null) {
                    error.printStackTrace();
                }
                // Not exit: its hooks would wait for the engine, which is in this call.
                Runtime.getRuntime().halt(success ? 0 : 1);
            })
            .notifying(DebeziumClient::take)
            .build();
        engine.run();
    }

    private static Properties properties(JsonNode options, File state, File offsets) {
        Properties p = new Properties();
        p.setProperty("name", "tributary-test");
        p.setProperty("connector.class", "io.debezium.connector.mysql.MySqlConnector");
        p.setProperty("topic.prefix", PREFIX);
        p.setProperty("database.hostname", options.get("host").asText());
        p.setProperty("database.port", options.get("port").asText());
        p.setProperty("database.user", options.get("user").asText());
        p.setProperty("database.password", options.get("password").asText());
        p.setProperty("database.server.id", options.get("server_id").asText());
        p.setProperty("database.ssl.mode", options.get("tls").asBoolean() ? "required" : "disabled");
        p.setProperty("snapshot.mode", "no_data");
        p.setProperty("snapshot.locking.mode", "none");
        StringJoiner leaveOut = new StringJoiner(",");
        options.get("leave_out").forEach(table -> leaveOut.add(table.asText().replace(".", "\\.")));
        if (leaveOut.length() > 0) {
            p.setProperty("table.exclude.list", leaveOut.toString());
        }
        p.setProperty("include.schema.changes", "true");
        p.setProperty("provide.transaction.metadata", "true");
        p.setProperty("tombstones.on.delete", "false");
        p.setProperty("decimal.handling.mode", "string");
        p.setProperty("binary.handling.mode", "hex");
        p.setProperty("bigint.unsigned.handling.mode", "long");
        p.setProperty("heartbeat.interval.ms", "1000");
        // A lost connection is noticed at this interval only, a minute by default.
        p.setProperty("connect.keep.alive.interval.ms", "1000");
        p.setProperty("errors.max.retries", "20");
        p.setProperty("errors.retry.delay.initial.ms", "300");
        p.setProperty("errors.retry.delay.max.ms", "1000");
        p.setProperty("converter.schemas.enable", "false");
        p.setProperty("offset.storage", Offsets.class.getName());
        p.setProperty("offset.storage.file.filename", offsets.getPath());
        p.setProperty("offset.flush.interval.ms", "200");
        p.setProperty("schema.history.internal", "io.debezium.storage.file.history.FileSchemaHistory");
        p.setProperty("schema.history.internal.file.filename", new File(state, "history.jsonl").getPath());
        return p;
    }

    private static void take(ChangeEvent<String, String> event) {
        try {
            if (event.value() == null) {
                return;
            }
            JsonNode value = JSON.readTree(event.value());
            if (event.destination().startsWith("__debezium-heartbeat")) {
                Line.of("heartbeat").say();
            } else if (event.destination().equals(PREFIX + ".transaction")) {
                if ("END".equals(value.path("status").asText())) {
                    Line.of("commit").with("gno", gno(value.path("id").asText())).say();
                }
            } else if (event.destination().equals(PREFIX)) {
                ddl(value);
            } else {
                row(value);
            }
        } catch (Exception e) {
            e.printStackTrace();
            Runtime.getRuntime().halt(3);
        }
    }

    private static void ddl(JsonNode value) {
        JsonNode source = value.path("source");
        if (!source.path("snapshot").asText().matches("|false|null")) {
            Line.of("snapshot").with("db", value.path("databaseName").asText()).with("sql", value.path("ddl").asText()).say();
            return;
        }
        Line.of("ddl").with("db", value.path("databaseName").asText()).with("sql", value.path("ddl").asText())
            .with("gno", gno(source.path("gtid").asText())).with("file", source.path("file").asText())
            .with("pos", source.path("pos").asLong()).say();
    }

    private static void row(JsonNode value) {
        String op = switch (value.path("op").asText()) {
            case "c" -> "insert";
            case "u" -> "update";
            case "d" -> "delete";
            default -> "read";
        };
        JsonNode source = value.path("source");
        JsonNode image = value.path(op.equals("delete") ? "before" : "after");
        JsonNode before = value.path("before");
        Line.of("row").with("op", op).with("db", source.path("db").asText()).with("table", source.path("table").asText())
            .with("gno", gno(source.path("gtid").asText()))
            .with("at", source.path("file").asText() + ":" + source.path("pos").asText() + ":" + source.path("row").asText())
            .with("row", new Line.Raw(image.toString())).with("before", new Line.Raw(before.toString())).say();
    }

    /** Offsets in a file that is replaced: the store that comes with it writes into the file, and is empty when it is killed just then. */
    public static final class Offsets extends MemoryOffsetBackingStore {
        private Path file;

        @Override
        public void configure(WorkerConfig config) {
            super.configure(config);
            file = Path.of(config.getString(StandaloneConfig.OFFSET_STORAGE_FILE_FILENAME_CONFIG));
        }

        @Override
        public synchronized void start() {
            super.start();
            try {
                if (!Files.exists(file)) {
                    return;
                }
                for (String line : Files.readAllLines(file)) {
                    String[] pair = line.split(" ");
                    byte[] value = HexFormat.of().parseHex(pair[1]);
                    data.put(ByteBuffer.wrap(HexFormat.of().parseHex(pair[0])), ByteBuffer.wrap(value));
                    System.err.println("goes on at " + new String(value, StandardCharsets.UTF_8));
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        @Override
        protected void save() {
            StringBuilder text = new StringBuilder();
            data.forEach((key, value) -> {
                if (key != null && value != null) {
                    text.append(hex(key)).append(' ').append(hex(value)).append('\n');
                }
            });
            try {
                Path next = Path.of(file + ".new");
                Files.writeString(next, text);
                Files.move(next, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        private static String hex(ByteBuffer bytes) {
            byte[] copy = new byte[bytes.remaining()];
            bytes.duplicate().get(copy);
            return HexFormat.of().formatHex(copy);
        }

        @Override
        public Set<Map<String, Object>> connectorPartitions(String connector) {
            return Set.of();
        }
    }

    private static long gno(String gtid) {
        int colon = gtid.lastIndexOf(':');
        return colon < 0 ? 0 : Long.parseLong(gtid.substring(colon + 1));
    }
}
