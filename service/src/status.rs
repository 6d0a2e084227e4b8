//! The status of a running service: as JSON at `/status`, as text by `tributary status`.
//!
//! In: what the stages tell. Out: [`Status`]. Field names are a public interface.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tributary_flow::NodeChange;

/// Everything an operator asks first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// `tso` or `causal`
    pub(crate) order: String,
    /// `running`, or `halted` or `disk full`, with the reason.
    pub(crate) state: String,
    /// Version of the service.
    pub(crate) version: String,
    /// Seconds since the start.
    pub(crate) uptime_s: u64,
    pub(crate) nodes: Vec<NodeStatus>,
    /// Nodes of the configuration that have not joined yet, with what keeps them out.
    #[serde(default)]
    pub(crate) joining: BTreeMap<String, String>,
    /// The last change of the nodes; `/nodes` has all.
    #[serde(default)]
    pub(crate) last_change: Option<NodeChange>,
    pub(crate) merger: MergerStatus,
    pub(crate) store: StoreStatus,
    pub(crate) dump_clients: Vec<ClientStatus>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    /// `host:port` of the server that is read, or was last.
    pub(crate) address: String,
    /// `host:port` of each server of its failover group.
    #[serde(default)]
    pub(crate) servers: Vec<String>,
    /// Version of the server that is read.
    #[serde(default)]
    pub(crate) server_version: String,
    /// `connecting`, `checking`, `streaming`, `retrying`, `halted`, `stopped`
    pub(crate) state: String,
    /// What is wrong, if anything.
    pub(crate) error: Option<String>,
    /// Everything that is wrong, by name, the gravest first; also while the node is read.
    #[serde(default)]
    pub(crate) troubles: Vec<TroubleStatus>,
    /// What ended the last connection; it stays after the node has recovered.
    #[serde(default)]
    pub(crate) last_failure: Option<TroubleStatus>,
    /// File number and offset the merger has reached.
    pub(crate) position: String,
    /// GTIDs received so far.
    pub(crate) gtids: String,
    /// No distributed transaction with a lesser or equal TSO can come from this node.
    pub(crate) watermark_tso: u64,
    /// Prepared branches that are not resolved.
    pub(crate) unresolved_prepares: usize,
    pub(crate) transactions: u64,
    pub(crate) bytes: u64,
    /// Bytes received that are not durable yet.
    #[serde(default)]
    pub(crate) bytes_in_flight: usize,
    /// Whether the node is not read because too much is in flight.
    #[serde(default)]
    pub(crate) paused: bool,
    /// Up to where a semi-synchronous node was told that its transactions are durable here.
    #[serde(default)]
    pub(crate) semi_sync_acked: Option<String>,
    /// Age of the newest event received, by its own timestamp; 0 once the node has said that it has nothing more.
    pub(crate) lag_ms: Option<u64>,
    /// Age of the newest event received, by its own timestamp.
    pub(crate) newest_event_age_ms: Option<u64>,
}

/// Something that is wrong with a node, by one of the names of docs/upstream-trouble.md.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct TroubleStatus {
    /// `node-down`, `access-denied`, ...
    pub(crate) name: String,
    /// What was seen.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) advice: String,
    /// Milliseconds since the epoch.
    pub(crate) since_ms: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct MergerStatus {
    pub(crate) transactions: u64,
    pub(crate) bytes: u64,
    /// TSO of the last transaction merged.
    pub(crate) watermark: u64,
    /// Committed transactions and branches that wait for their turn.
    pub(crate) waiting: usize,
    pub(crate) fences: u64,
    /// Commits of branches prepared before their node was first read; not written.
    pub(crate) orphans: u64,
    /// Commits without a commit timestamp although the order is `tso`.
    #[serde(default)]
    pub(crate) untimed: u64,
    /// Distributed transactions that were committed on one node and rolled back on another.
    #[serde(default)]
    pub(crate) heuristics: u64,
    pub(crate) blocked: Vec<Blocked>,
    /// Statements that some tables have had and others have not.
    #[serde(default)]
    pub(crate) statements: Vec<WaitingStatement>,
    /// Statements that concern a node alone, and accounts: not written.
    #[serde(default)]
    pub(crate) local_statements: u64,
    /// Transactions of nodes that were written for another table, or in another shape.
    #[serde(default)]
    pub(crate) rewritten: u64,
    /// Branches that stay prepared for long and are kept in the index database.
    #[serde(default)]
    pub(crate) kept: Vec<KeptBranch>,
    pub(crate) halted: Option<String>,
}

/// A statement that has not reached all physical tables of its logical table.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct WaitingStatement {
    /// The logical tables, as `schema.table`; empty for statements about a database.
    pub(crate) tables: Vec<String>,
    /// The logical statement.
    pub(crate) statement: String,
    /// Whether it is in the merged binlog already: then only rows are reshaped until all have it.
    pub(crate) downstream: bool,
    /// Who has had it, as `node: schema.table`.
    pub(crate) have: Vec<String>,
    /// Who has not.
    pub(crate) missing: Vec<String>,
    /// When the first had it, milliseconds since the epoch.
    pub(crate) since_ms: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Blocked {
    pub(crate) node: String,
    /// `prepare`, `fence`, `no data`, `downstream`
    pub(crate) on: String,
    /// `prepare X'..',X'..',1 (GTID at POSITION)`, `fence; read up to POSITION`, ...
    pub(crate) what: String,
    /// What to do when it lasts.
    pub(crate) advice: String,
    /// Milliseconds since the epoch.
    pub(crate) since_ms: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct KeptBranch {
    pub(crate) node: String,
    /// As `XA RECOVER CONVERT XID` shows it and `XA COMMIT` takes it.
    pub(crate) xid: String,
    /// GTID of its `XA PREPARE` on the node.
    pub(crate) gtid: String,
    /// When it was prepared by its node's clock, milliseconds since the epoch.
    pub(crate) prepared_ms: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct StoreStatus {
    pub(crate) server_uuid: String,
    pub(crate) durable_file: String,
    pub(crate) durable_offset: u64,
    pub(crate) gtid_executed: String,
    pub(crate) gtid_purged: String,
    pub(crate) files: usize,
    /// Transactions made durable since the start.
    pub(crate) transactions: u64,
    pub(crate) commits: u64,
    pub(crate) commit_micros: u64,
    /// Binlog files that could not be sent because they are damaged: `binlog.000002:1234: what is wrong`.
    #[serde(default)]
    pub(crate) damaged: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ClientStatus {
    pub(crate) id: u32,
    pub(crate) user: String,
    pub(crate) host: String,
    /// In the words of `SHOW PROCESSLIST`.
    pub(crate) command: String,
    /// `program_name` the client announced, empty if it did not.
    pub(crate) program: String,
    pub(crate) server_id: u32,
    pub(crate) uuid: String,
    /// `binlog.000002:1234` sent so far, of a client that reads the binlog.
    pub(crate) position: String,
    /// Whether a client that reads the binlog has been sent everything durable.
    pub(crate) caught_up: bool,
    /// Whether it acknowledges what it has received: a semi-synchronous replica.
    #[serde(default)]
    pub(crate) semi_sync: bool,
    /// `binlog.000002:1234`: what it has acknowledged; empty if nothing.
    #[serde(default)]
    pub(crate) acknowledged: String,
    /// Seconds in the present command.
    pub(crate) seconds: u64,
}

/// Runs `tributary status`.
pub(crate) fn run(admin: &str, json: bool) -> anyhow::Result<ExitCode> {
    let body = get(admin, "/status")?;
    if json {
        println!("{}", body.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let status: Status =
        serde_json::from_str(&body).context("the answer is not a status of this version")?;
    print!("{}", render(&status));
    Ok(ExitCode::SUCCESS)
}

/// What is answered at a path of the admin interface.
pub(crate) fn get(admin: &str, path: &str) -> anyhow::Result<String> {
    let (code, body) = ask(admin, &format!("GET {path}"), "", Duration::from_secs(10))?;
    match code {
        200 => {}
        // The service has said what is wrong with the question.
        400 if !body.is_empty() => bail!("{}", body.trim_end()),
        _ => bail!("{admin}{path} answered {code}: {}", body.trim_end()),
    }
    Ok(body)
}

/// What is answered to a JSON document, within `limit`.
pub(crate) fn post(
    admin: &str,
    path: &str,
    json: &str,
    limit: Duration,
) -> anyhow::Result<(u16, String)> {
    ask(admin, &format!("POST {path}"), json, limit)
}

/// One HTTP request to the admin interface, which always answers whole and closes.
fn ask(admin: &str, request: &str, json: &str, limit: Duration) -> anyhow::Result<(u16, String)> {
    let address = admin
        .strip_prefix("http://")
        .unwrap_or(admin)
        .trim_end_matches('/');
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("no service answers at {admin}"))?;
    stream.set_read_timeout(Some(limit))?;
    let length = json.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{json}"
    )?;
    let mut answer = String::new();
    stream
        .take(64 << 20)
        .read_to_string(&mut answer)
        .context("the answer is cut short")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.context("the answer is not HTTP")?, body.to_owned()))
}

/// How long ago a moment was, in the unit a person uses.
fn age(since_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = now
        .map_or(0, |d| d.as_millis() as u64)
        .saturating_sub(since_ms);
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{} s", ms / 1000),
        _ => format!("{} min", ms / 60_000),
    }
}

/// Statements that some tables have had and others have not.
fn statements(out: &mut String, waiting: &[WaitingStatement]) {
    for w in waiting {
        let place = if w.downstream {
            "in the binlog"
        } else {
            "waits"
        };
        let _ = writeln!(
            out,
            "ddl      {} {}: {} (since {})",
            w.tables.join(", "),
            place,
            w.statement,
            age(w.since_ms)
        );
        let _ = writeln!(out, "         had by   {}", some(&w.have));
        let _ = writeln!(out, "         not by   {}", some(&w.missing));
    }
}

/// The first of a list, and how many more there are.
fn some(list: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = list.get(..SHOWN).unwrap_or(list).join(", ");
    match list.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn render(s: &Status) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "cluster {} (order {}): {}",
        s.cluster, s.order, s.state
    );
    let _ = writeln!(
        out,
        "\n{:<12} {:<11} {:>18} {:>18} {:>9} {:>10}",
        "NODE", "STATE", "POSITION", "WATERMARK", "PREPARED", "LAG"
    );
    for n in &s.nodes {
        let lag = n.lag_ms.map_or_else(|| "-".into(), |ms| format!("{ms} ms"));
        let _ = writeln!(
            out,
            "{:<12} {:<11} {:>18} {:>18} {:>9} {:>10}",
            n.name, n.state, n.position, n.watermark_tso, n.unresolved_prepares, lag
        );
        if let Some(error) = &n.error {
            let _ = writeln!(out, "{:<12} {error}", "");
        }
        for t in &n.troubles {
            let (name, lasting) = (&t.name, age(t.since_ms));
            // The first trouble of a node that is not read is its error.
            let what = match n.error.as_ref().is_some_and(|e| e.starts_with(&t.what)) {
                true => "",
                false => t.what.as_str(),
            };
            let _ = writeln!(out, "{:<12} {name} for {lasting} {what}", "");
            let _ = writeln!(out, "{:<12} {}", "", t.advice);
        }
    }
    for (name, why) in &s.joining {
        let _ = writeln!(out, "{name:<12} not joined: {why}");
    }
    let m = &s.merger;
    let _ = writeln!(
        out,
        "\nmerged   {} transactions, TSO {}, {} waiting",
        m.transactions, m.watermark, m.waiting
    );
    for b in &m.blocked {
        let _ = writeln!(
            out,
            "waits    {} for {} {}",
            age(b.since_ms),
            b.node,
            b.what
        );
        let _ = writeln!(out, "         {}", b.advice);
    }
    statements(&mut out, &m.statements);
    for k in &m.kept {
        let _ = writeln!(
            out,
            "kept     {} of {}, prepared {} ago ({}, {} bytes of rows)",
            k.xid,
            k.node,
            age(k.prepared_ms),
            k.gtid,
            k.bytes
        );
    }
    let _ = writeln!(
        out,
        "durable  {}:{}  {}",
        s.store.durable_file, s.store.durable_offset, s.store.gtid_executed
    );
    for damage in &s.store.damaged {
        let _ = writeln!(out, "DAMAGED  {damage}");
    }
    let _ = writeln!(
        out,
        "\n{:<6} {:<16} {:<22} {:<18} POSITION",
        "ID", "USER", "HOST", "COMMAND"
    );
    for c in &s.dump_clients {
        let _ = writeln!(
            out,
            "{:<6} {:<16} {:<22} {:<18} {}",
            c.id, c.user, c.host, c.command, c.position
        );
    }
    out
}
