import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.zendesk.maxwell.Maxwell;
import com.zendesk.maxwell.MaxwellConfig;
import com.zendesk.maxwell.MaxwellContext;
import com.zendesk.maxwell.producer.AbstractProducer;
import com.zendesk.maxwell.producer.ProducerFactory;
import com.zendesk.maxwell.replication.BinlogPosition;
import com.zendesk.maxwell.row.RawJSONString;
import com.zendesk.maxwell.row.RowMap;
import com.zendesk.maxwell.schema.ddl.DDLMap;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/** Prints what Maxwell makes of a stream. It keeps its position and its schemas itself, in a MySQL of its own ("keeper"). */
public final class MaxwellClient {
    private static final ObjectMapper JSON = new ObjectMapper();
    /** Maxwell writes bytes in base64 and does not say in which columns. */
    private static final Set<String> BYTES = Set.of("c_binary", "c_varbinary", "c_blob");

    public static void main(String[] args) throws Exception {
        JsonNode options = JSON.readTree(args[0]);
        String jdbc = "allowPublicKeyRetrieval=true&connectTimeout=5000";
        List<String> argv = new ArrayList<>(List.of(
            "--user=maxwell", "--password=maxwell", "--host=127.0.0.1", "--port=" + options.get("keeper").asText(),
            "--ssl=DISABLED", "--jdbc_options=" + jdbc, "--schema_database=maxwell_" + options.get("server_id").asText(), "--client_id=bank",
            "--replica_server_id=" + options.get("server_id").asText(), "--gtid_mode=" + "gtid".equals(options.get("mode").asText()),
            "--filter=exclude: *.*, include: " + options.get("database").asText() + ".*", "--output_ddl=true", "--output_xoffset=true",
            "--custom_producer.factory=" + Factory.class.getName(), "--log_level=INFO"));
        // Its replication_jdbc_options are read by nothing in this version: the host's are used.
        for (String which : new String[] {"replication", "schema"}) {
            argv.addAll(List.of("--" + which + "_host=" + options.get("host").asText(), "--" + which + "_port=" + options.get("port").asText(),
                "--" + which + "_user=" + options.get("user").asText(), "--" + which + "_password=" + options.get("password").asText(),
                "--" + which + "_ssl=DISABLED"));
        }
        if (options.path("init").asBoolean()) {
            // It would ask for SHOW MASTER STATUS, which MySQL 9 has no more.
            JsonNode start = options.get("start");
            argv.add("--init_position=" + start.get("file").asText() + ":" + start.get("pos").asText() + ":0");
        }
        try {
            new Maxwell(new MaxwellConfig(argv.toArray(new String[0]))) {
                @Override
                protected void onReplicatorStart() {
                    Line.of("ready").say();
                }
            }.run();
        } catch (Throwable e) {
            e.printStackTrace();
        }
        Runtime.getRuntime().halt(1);
    }

    public static final class Factory implements ProducerFactory {
        @Override
        public AbstractProducer createProducer(MaxwellContext context) {
            return new Printer(context);
        }
    }

    private static final class Printer extends AbstractProducer {
        Printer(MaxwellContext context) {
            super(context);
        }

        @Override
        public void push(RowMap row) {
            if (row.shouldOutput(outputConfig)) {
                take(row);
            }
            context.setPosition(row);
        }
    }

    private static void take(RowMap row) {
        if (row instanceof DDLMap ddl) {
            BinlogPosition place = row.getNextPosition().getBinlogPosition();
            Line.of("ddl").with("db", row.getDatabase()).with("sql", ddl.getSql()).with("gno", 0)
                .with("file", place.getFile()).with("pos", place.getOffset()).say();
            return;
        }
        // The service's XIDs are its transactions' numbers.
        Line.of("row").with("op", row.getRowType()).with("db", row.getDatabase()).with("table", row.getTable())
            .with("gno", row.getXid()).with("at", "" + row.getXoffset()).with("row", image(row.getData())).say();
        if (row.isTXCommit()) {
            Line.of("commit").with("gno", row.getXid()).say();
        }
    }

    private static Map<String, Object> image(Map<String, Object> data) {
        Map<String, Object> image = new LinkedHashMap<>();
        data.forEach((name, value) -> image.put(name, value(name, value)));
        return image;
    }

    private static Object value(String name, Object value) {
        if (value instanceof BigDecimal number) {
            return number.toPlainString();
        }
        if (value instanceof RawJSONString document) {
            return Map.of("json", new Line.Raw(document.json));
        }
        if (value instanceof List<?> set) {
            return set.stream().map(Object::toString).collect(Collectors.joining(","));
        }
        if (value instanceof Float || value instanceof Double || value instanceof java.util.Date) {
            return value.toString();
        }
        if (value instanceof String text && BYTES.contains(name)) {
            return Line.hex(Base64.getDecoder().decode(text));
        }
        return value;
    }
}
