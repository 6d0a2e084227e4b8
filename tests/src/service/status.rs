//! The service's `/status`, read leniently: in goes JSON, out come the fields that are there. A
//! field that is missing reads as zero or empty, so that a new field breaks no test.

use serde_json::Value;

/// One answer of `/status`.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(pub Value);

impl Status {
    fn at(&self, path: &str) -> &Value {
        self.0.pointer(path).unwrap_or(&Value::Null)
    }

    fn number(&self, path: &str) -> u64 {
        self.at(path).as_u64().unwrap_or(0)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).as_str().unwrap_or_default().to_owned()
    }

    fn nodes(&self) -> impl Iterator<Item = &Value> {
        self.at("/nodes").as_array().into_iter().flatten()
    }

    /// `running`, or why not.
    pub fn state(&self) -> String {
        self.text("/state")
    }

    /// Transactions merged since the start.
    pub fn transactions(&self) -> u64 {
        self.number("/merger/transactions")
    }

    /// TSO up to which everything is merged.
    pub fn watermark(&self) -> u64 {
        self.number("/merger/watermark")
    }

    /// What the merger waits for, in words.
    pub fn blocked(&self) -> Vec<String> {
        let blocked = self.at("/merger/blocked").as_array().into_iter().flatten();
        let text = |value: &Value| match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        };
        blocked.map(text).collect()
    }

    /// The slowest node's lag in milliseconds, if any node tells one.
    pub fn lag_ms(&self) -> Option<u64> {
        self.nodes()
            .filter_map(|node| node.get("lag_ms")?.as_u64())
            .max()
    }

    /// Names and states of the nodes.
    pub fn node_states(&self) -> Vec<(String, String)> {
        let field = |node: &Value, name: &str| {
            node.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        self.nodes()
            .map(|node| (field(node, "name"), field(node, "state")))
            .collect()
    }

    /// What is wrong with a node now, by name, and what was last.
    pub fn troubles(&self, node: &str) -> (Vec<String>, String) {
        let node = self.nodes().find(|n| n["name"] == node);
        let name = |t: &Value| t["name"].as_str().unwrap_or_default().to_owned();
        let troubles = node.and_then(|n| n["troubles"].as_array());
        (
            troubles.into_iter().flatten().map(name).collect(),
            node.map(|n| name(&n["last_failure"])).unwrap_or_default(),
        )
    }

    /// What to do about a trouble of a node; empty when it has it not.
    pub fn advice(&self, node: &str, trouble: &str) -> String {
        let node = self.nodes().find(|n| n["name"] == node);
        let troubles = node.and_then(|n| n["troubles"].as_array());
        let one = troubles
            .into_iter()
            .flatten()
            .find(|t| t["name"] == trouble);
        one.and_then(|t| t["advice"].as_str())
            .unwrap_or_default()
            .to_owned()
    }

    /// The durable end: binlog file and position.
    pub fn durable(&self) -> (String, u64) {
        (
            self.text("/store/durable_file"),
            self.number("/store/durable_offset"),
        )
    }

    /// GTIDs of everything durable.
    pub fn gtid_executed(&self) -> String {
        self.text("/store/gtid_executed")
    }

    /// Number of the last transaction that is durable, if there is one.
    pub fn last_gno(&self) -> Option<u64> {
        let executed = self.gtid_executed();
        executed.rsplit([':', '-']).next()?.parse().ok()
    }

    /// Transactions made durable.
    pub fn durable_transactions(&self) -> u64 {
        self.number("/store/transactions")
    }

    /// Dump clients connected.
    pub fn dump_clients(&self) -> usize {
        self.at("/dump_clients").as_array().map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_zero() {
        let status = Status(json!({
            "nodes": [{"name": "dn1", "state": "streaming", "lag_ms": 3},
                      {"name": "dn2", "state": "retrying", "lag_ms": null}],
            "merger": {"transactions": 7, "watermark": 99, "blocked": ["dn2", {"node": "dn1"}]},
            "store": {"durable_file": "binlog.000002", "durable_offset": 4}
        }));
        assert_eq!((status.transactions(), status.watermark()), (7, 99));
        assert_eq!(status.lag_ms(), Some(3));
        assert_eq!(status.durable(), ("binlog.000002".to_owned(), 4));
        assert_eq!(status.blocked(), ["dn2", r#"{"node":"dn1"}"#]);
        let states: Vec<_> = status
            .node_states()
            .into_iter()
            .map(|(_, state)| state)
            .collect();
        assert_eq!(states, ["streaming", "retrying"]);
        let empty = Status(Value::Null);
        assert_eq!(
            (empty.transactions(), empty.lag_ms(), empty.dump_clients()),
            (0, None, 0)
        );
    }
}
