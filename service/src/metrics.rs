//! Prometheus metrics, made from the status at each scrape.

use metrics::{counter, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use tributary_collector::TroubleKind;
use tributary_dump_server::Counters;

use crate::status::Status;

/// The metrics page.
pub(crate) fn render(status: &Status, clients: &Counters) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    with_local_recorder(&recorder, || {
        nodes(status);
        merger(status);
        store(status);
        dump(status, clients);
    });
    handle.render()
}

fn nodes(status: &Status) {
    for n in &status.nodes {
        let node = n.name.clone();
        gauge!("tributary_node_up", "node" => node.clone())
            .set(f64::from(u8::from(n.state == "streaming")));
        gauge!("tributary_node_halted", "node" => node.clone())
            .set(f64::from(u8::from(n.state == "halted")));
        gauge!("tributary_node_watermark_tso", "node" => node.clone()).set(n.watermark_tso as f64);
        gauge!("tributary_node_unresolved_prepares", "node" => node.clone())
            .set(n.unresolved_prepares as f64);
        if let Some(lag) = n.lag_ms {
            gauge!("tributary_node_lag_seconds", "node" => node.clone()).set(lag as f64 / 1000.0);
        }
        if let Some(lag) = n.newest_event_age_ms {
            gauge!("tributary_node_newest_event_age_seconds", "node" => node.clone())
                .set(lag as f64 / 1000.0);
        }
        gauge!("tributary_node_bytes_in_flight", "node" => node.clone())
            .set(n.bytes_in_flight as f64);
        // Every kind has a value, so that an alert on one ends when the trouble does.
        for kind in TroubleKind::all() {
            let there = n.troubles.iter().any(|t| t.name == kind.name());
            gauge!("tributary_node_trouble", "node" => node.clone(), "trouble" => kind.name())
                .set(f64::from(u8::from(there)));
        }
        counter!("tributary_node_transactions_total", "node" => node.clone())
            .absolute(n.transactions);
        counter!("tributary_node_bytes_total", "node" => node).absolute(n.bytes);
    }
}

fn merger(status: &Status) {
    let m = &status.merger;
    counter!("tributary_merged_transactions_total").absolute(m.transactions);
    counter!("tributary_merged_bytes_total").absolute(m.bytes);
    counter!("tributary_fences_total").absolute(m.fences);
    counter!("tributary_orphan_commits_total").absolute(m.orphans);
    counter!("tributary_untimed_commits_total").absolute(m.untimed);
    counter!("tributary_heuristic_outcomes_total").absolute(m.heuristics);
    counter!("tributary_local_statements_total").absolute(m.local_statements);
    counter!("tributary_rewritten_transactions_total").absolute(m.rewritten);
    gauge!("tributary_statements_waiting").set(m.statements.len() as f64);
    for w in &m.statements {
        let table = w.tables.join(",");
        gauge!("tributary_statement_waiting_since_milliseconds", "table" => table, "downstream" => w.downstream.to_string())
            .set(w.since_ms as f64);
    }
    gauge!("tributary_merger_tso").set(m.watermark as f64);
    gauge!("tributary_merger_waiting").set(m.waiting as f64);
    gauge!("tributary_halted").set(f64::from(u8::from(status.state != "running")));
    gauge!("tributary_kept_branches").set(m.kept.len() as f64);
    gauge!("tributary_kept_branches_bytes").set(m.kept.iter().map(|k| k.bytes).sum::<u64>() as f64);
    for b in &m.blocked {
        gauge!("tributary_merger_blocked_since_milliseconds", "node" => b.node.clone(), "on" => b.on.clone()).set(b.since_ms as f64);
    }
}

fn store(status: &Status) {
    let s = &status.store;
    counter!("tributary_durable_transactions_total").absolute(s.transactions);
    counter!("tributary_group_commits_total").absolute(s.commits);
    counter!("tributary_group_commit_microseconds_total").absolute(s.commit_micros);
    gauge!("tributary_binlog_files").set(s.files as f64);
    gauge!("tributary_durable_offset", "file" => s.durable_file.clone())
        .set(s.durable_offset as f64);
}

fn dump(status: &Status, clients: &Counters) {
    gauge!("tributary_clients").set(status.dump_clients.len() as f64);
    counter!("tributary_client_connections_total").absolute(clients.connections);
    counter!("tributary_client_connections_refused_total").absolute(clients.connections_refused);
    counter!("tributary_client_connections_aborted_total").absolute(clients.connections_aborted);
    counter!("tributary_client_commands_total").absolute(clients.commands);
    counter!("tributary_dumps_total").absolute(clients.dumps);
    counter!("tributary_dump_events_total").absolute(clients.events_sent);
    counter!("tributary_dump_bytes_total").absolute(clients.bytes_sent);
    for (code, count) in &clients.errors {
        counter!("tributary_client_errors_total", "code" => code.to_string()).absolute(*count);
    }
}
