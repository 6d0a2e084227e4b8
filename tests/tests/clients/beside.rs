//! Every client at a MySQL 9.7 and at the service before which that MySQL stands, at the same time.
//!
//! In: a table for each family of column types, with values at their boundaries (`kinds.sql`). Each client must print the same lines from both,
//! value by value and statement by statement; and what it said and heard, recorded by proxies, must be the same, too, but for
//! differences that have their reasons in `beside.tsv`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tributary_tests::cluster::Cluster;
use tributary_tests::mysqld::REPL_ACCOUNT;
use tributary_tests::process::{Lifetime, Process, Program};
use tributary_tests::service::{Service, ServiceOptions, Status};
use tributary_tests::wire::{Difference, Explained, WireProxy, differences, explain, settings};

use crate::client::{environment, launcher};
use crate::stream::{chosen, keeper};

const WITHIN: Duration = Duration::from_secs(120);
const KINDS: &str = include_str!("kinds.sql");
/// Client, start of the place, start of the difference, reason, `maybe`.
const REASONS: &str = include_str!("beside.tsv");

/// A client, and what it does differently here.
struct Subject {
    name: &'static str,
    program: &'static str,
    api: &'static str,
    mode: &'static str,
    /// Tables it cannot read, from MySQL either, and why.
    left_out: &'static [(&'static str, &'static str)],
    /// It can only be told which tables it is to read, not which ones it is to leave out.
    by_choice: bool,
    /// What it says when it gets no further, at MySQL, too, at a value that it cannot read.
    ends: &'static str,
    /// How many rows it reads at least.
    least: usize,
}

/// Where a client reads.
struct Place {
    proxy: WireProxy,
    dir: PathBuf,
    start: Value,
    keeper: u16,
    server_id: u32,
}

struct Running {
    process: Process,
    lines: PathBuf,
    log: PathBuf,
}

impl Subject {
    fn launch(&self, place: &Place) -> Result<Running> {
        let dir = place.dir.join(self.name);
        fs::create_dir_all(&dir)?;
        let left_out: Vec<&str> = self.left_out.iter().map(|(table, _)| *table).collect();
        let mut only: Vec<String> = Vec::new();
        if self.by_choice {
            only = tables();
            only.retain(|table| !left_out.contains(&table.as_str()));
        }
        let options = json!({
            "api": self.api, "host": "127.0.0.1", "port": place.proxy.port(),
            "user": REPL_ACCOUNT.0, "password": REPL_ACCOUNT.1,
            "server_id": place.server_id, "mode": self.mode, "tls": false,
            "state": dir, "start": place.start, "leave_out": left_out, "only": only,
            "keeper": place.keeper, "database": "kinds", "init": true,
        });
        let (lines, log) = (dir.join("lines"), dir.join("log"));
        fs::write(&lines, "")?;
        let script = r#"exec "$0" "$1" >"$2""#;
        let args = ["-c".into(), script.into(), launcher(self.program)?.into()];
        let rest = [options.to_string().into(), lines.clone().into_os_string()];
        let process = Process::spawn(&Program {
            name: self.name.to_owned(),
            path: "/bin/sh".into(),
            args: args.into_iter().chain(rest).collect(),
            env: environment(),
            log: log.clone(),
            lifetime: Lifetime::Owned,
        })?;
        Ok(Running {
            process,
            lines,
            log,
        })
    }
}

/// The tables of `kinds.sql`.
fn tables() -> Vec<String> {
    let created = KINDS
        .lines()
        .filter_map(|line| line.strip_prefix("CREATE TABLE "));
    let names = created.filter_map(|rest| rest.split(' ').next());
    names
        .map(str::to_owned)
        .chain(["kinds.last".to_owned()])
        .collect()
}

impl Running {
    /// What it has printed: rows and statements, without their places.
    fn said(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.lines)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut said = Vec::new();
        for line in whole.lines() {
            let mut value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            if !matches!(value["e"].as_str(), Some("row" | "ddl" | "commit" | "skew")) {
                continue;
            }
            if let Some(fields) = value.as_object_mut() {
                for place in ["gno", "file", "pos", "at"] {
                    fields.remove(place);
                }
            }
            said.push(value);
        }
        Ok(said)
    }

    fn has(&self, what: &str) -> bool {
        fs::read_to_string(&self.lines).is_ok_and(|text| text.contains(what))
    }

    fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// Waits until every one has printed a line that `done` names, or has ended.
async fn until(running: &mut [(&Subject, Running)], what: &[&str]) -> Result<()> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let mut late = Vec::new();
        for (subject, running) in running.iter_mut() {
            let ended = !subject.ends.is_empty() && running.tail().contains(subject.ends);
            let done = ended || what.iter().any(|what| running.has(what));
            if !done && running.process.exited().is_none() {
                let (name, log) = (subject.name, &running.log);
                late.push(format!("{name} in {log:?}:\n{}", running.tail()));
            }
        }
        if late.is_empty() {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "no {what:?} within {WITHIN:?}: {}",
            late.join("\n")
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A client that gets no further at a value which it cannot read must do so at both.
fn ended(subject: &Subject, pair: &mut [(&Subject, Running)]) -> Option<String> {
    let name = subject.name;
    let tails: Vec<String> = pair.iter().map(|(_, running)| running.tail()).collect();
    let shown = || Some(tails.join("\nhere:\n"));
    if !subject.ends.is_empty() {
        let both = tails.iter().all(|tail| tail.contains(subject.ends));
        return if both { None } else { shown() };
    }
    let mut ended = pair
        .iter_mut()
        .map(|(_, running)| running.process.exited().is_some());
    if ended.any(|ended| ended) {
        shown()
    } else {
        None
    }
    .map(|text| format!("{name}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_and_every_statement_are_as_at_mysql() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let node = &cluster.nodes[0];
    let service = Service::start(ServiceOptions::new("tso", [node]), cluster.dir()).await?;
    node.sql("CREATE DATABASE kinds CHARACTER SET utf8mb4; CREATE TABLE kinds.first (id INT PRIMARY KEY)")
        .await?;
    let first = |status: &Status| status.gtid_executed().ends_with("-2");
    service
        .wait_status("the first transactions", WITHIN, first)
        .await?;
    let subjects: Vec<Subject> = subjects()
        .into_iter()
        .filter(|subject| chosen(subject.name))
        .collect();
    let keeper = keeper(cluster.dir()).await?;
    // Its password is in the cache, as it is here.
    drop(node.conn(REPL_ACCOUNT).await?);
    let (file, pos) = node.binlog_position().await?;
    let there = json!({"file": file, "pos": pos, "gtid": node.gtid_executed().await?});
    let status = service.status().await?;
    let (file, pos) = status.durable();
    let here = json!({"file": file, "pos": pos, "gtid": status.gtid_executed()});
    let (mut running, mut proxies) = (Vec::new(), Vec::new());
    for (number, subject) in (0..).zip(&subjects) {
        for (which, port, start) in [(0, node.port(), &there), (1, service.port(), &here)] {
            let place = Place {
                proxy: WireProxy::start(port).await?,
                dir: cluster.dir().join(["at-mysql", "here"][which as usize]),
                start: start.clone(),
                keeper: keeper.port(),
                server_id: 500 + number * 2 + which,
            };
            running.push((subject, subject.launch(&place)?));
            proxies.push(place.proxy);
        }
    }
    until(&mut running, &[r#""ready""#, r#""heartbeat""#]).await?;
    let mut conn = node.root().await?;
    for line in KINDS.lines().filter(|line| !line.starts_with("--")) {
        use mysql_async::prelude::Queryable;
        conn.query_drop(line)
            .await
            .with_context(|| line.to_owned())?;
    }
    conn.disconnect().await?;
    node.sql("CREATE TABLE kinds.last (id INT PRIMARY KEY); INSERT INTO kinds.last VALUES (1)")
        .await?;
    until(&mut running, &[r#""table":"last""#, r#""table": "last""#]).await?;
    let mut bad = Vec::new();
    for (pair, subject) in running.chunks_mut(2).zip(&subjects) {
        bad.extend(ended(subject, pair));
    }
    for (_, running) in &mut running {
        running.process.kill9();
    }
    for ((pair, proxies), subject) in running.chunks(2).zip(proxies.chunks(2)).zip(&subjects) {
        let [(_, there), (_, here)] = pair else {
            bail!("no pair");
        };
        bad.extend(lines(subject, &there.said()?, &here.said()?));
        let found = differences(&proxies[0].transcript(), &proxies[1].transcript());
        keep(subject.name, &found)?;
        if let Err(error) = explain(&found, &reasons(subject.name, &found)) {
            bad.push(format!("{}: {error:#}", subject.name));
        }
    }
    ensure!(bad.is_empty(), "{}", bad.join("\n"));
    Ok(())
}

/// In what the lines differ.
fn lines(subject: &Subject, there: &[Value], here: &[Value]) -> Vec<String> {
    let name = subject.name;
    let row = |line: &&Value| line["e"] == "row";
    let rows = there.iter().filter(row).count();
    let last = there
        .iter()
        .rfind(row)
        .map(|line| line["table"].to_string())
        .unwrap_or_default();
    println!(
        "{name}: {} lines from both, {rows} of them rows, the last of {last}",
        there.len()
    );
    let mut bad = Vec::new();
    if there.len() != here.len() {
        let (there, here) = (there.len(), here.len());
        bad.push(format!(
            "{name}: {there} lines from MySQL, {here} from here"
        ));
    }
    if rows < subject.least {
        bad.push(format!("{name}: only {rows} rows"));
    }
    let differ = there.iter().zip(here).filter(|(a, b)| a != b);
    for (a, b) in differ.take(5) {
        let cut = |value: &Value| value.to_string().chars().take(2000).collect::<String>();
        bad.push(format!("{name}: {}\n  here {}", cut(a), cut(b)));
    }
    bad
}

/// The differences as text, where `TRIBUTARY_TRANSCRIPTS` says.
fn keep(name: &str, found: &[Difference]) -> Result<()> {
    let Some(dir) = std::env::var_os("TRIBUTARY_TRANSCRIPTS") else {
        return Ok(());
    };
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    let path = Path::new(&dir).join(format!("{name}-differences.txt"));
    Ok(fs::write(path, text.join("\n"))?)
}

/// The reasons of a client (`*`: of every one). Some (`maybe`) are of differences that do not always show.
fn reasons(name: &str, found: &[Difference]) -> Vec<Explained> {
    let mut reasons = Vec::new();
    for line in REASONS.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&'static str> = line.split('\t').collect();
        let &[client, place, what, reason, ref maybe @ ..] = fields.as_slice() else {
            continue;
        };
        let explained = Explained {
            place,
            what,
            reason,
        };
        let shows = found.iter().any(|found| explained.covers(found));
        if [name, "*"].contains(&client) && (shows || maybe.is_empty()) {
            reasons.push(explained);
        }
    }
    reasons.extend(settings(found));
    reasons
}

fn subjects() -> Vec<Subject> {
    let subject = |name, program| Subject {
        name,
        program,
        api: "",
        mode: "gtid",
        left_out: &[],
        by_choice: false,
        ends: "",
        least: 50,
    };
    vec![
        subject("debezium", "debezium"),
        Subject {
            api: "syncer",
            ..subject("go-mysql-syncer", "go")
        },
        Subject {
            // Built with checks, as everything here, it ends at a zero date.
            ends: "attempt to subtract with overflow",
            least: 20,
            ..subject("mysql-async", "tributary-mysql-async-client")
        },
        Subject {
            api: "canal",
            by_choice: true,
            ..subject("go-mysql-canal", "go")
        },
        Subject {
            // A negative TIME inside a JSON document.
            ends: "hour must be in 0..23",
            ..subject("mysql-replication", "python")
        },
        Subject {
            by_choice: true,
            // VECTOR.
            ends: "Unsupported type \"242\"",
            ..subject("vlasky-zongji", "vlasky")
        },
        Subject {
            mode: "file",
            by_choice: true,
            // A decimal number or a BLOB inside a JSON document.
            ends: "JSON Opaque Type Not Implemented",
            ..subject("powersync-zongji", "powersync")
        },
        Subject {
            mode: "file",
            ends: "maxwell encountered an exception",
            ..subject("maxwell", "maxwell")
        },
        // Maxwell as it was published in 2019: its own binlog client knows mysql_native_password only, which MySQL 9 has no more.
        Subject {
            mode: "file",
            ends: "AuthenticationException",
            least: 0,
            ..subject("maxwell-own", "maxwell-own")
        },
        Subject {
            ends: "limit excceed",
            ..subject("canal", "canal")
        },
    ]
}
