import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;

/** One line of JSON on standard output, as ../README.md describes it. */
final class Line {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    static {
        // Libraries that print to standard output do not get between the lines.
        System.setOut(System.err);
    }

    private final Map<String, Object> fields = new LinkedHashMap<>();

    static Line of(String event) {
        return new Line().with("e", event);
    }

    Line with(String name, Object value) {
        fields.put(name, value);
        return this;
    }

    void say() {
        StringBuilder text = new StringBuilder();
        write(text, fields);
        synchronized (OUT) {
            OUT.println(text);
        }
    }

    /** Text that is JSON already. */
    record Raw(String json) {}

    static Map<String, Object> hex(byte[] bytes) {
        return Map.of("hex", HexFormat.of().formatHex(bytes));
    }

    private static void write(StringBuilder text, Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            text.append(value);
        } else if (value instanceof Raw raw) {
            text.append(raw.json());
        } else if (value instanceof Map<?, ?> map) {
            String comma = "{";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                text.append(comma);
                write(text, entry.getKey().toString());
                text.append(':');
                write(text, entry.getValue());
                comma = ",";
            }
            text.append(map.isEmpty() ? "{}" : "}");
        } else {
            quote(text, value.toString());
        }
    }

    private static void quote(StringBuilder text, String value) {
        text.append('"');
        for (int i = 0; i < value.length(); i++) {
            char c = value.charAt(i);
            if (c == '"' || c == '\\') {
                text.append('\\').append(c);
            } else if (c < ' ') {
                text.append(String.format("\\u%04x", (int) c));
            } else {
                text.append(c);
            }
        }
        text.append('"');
    }
}
