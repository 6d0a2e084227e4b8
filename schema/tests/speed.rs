//! How fast rows are reshaped. `cargo test --release -p tributary-schema --test main -- --ignored --nocapture speed`

use std::fs;

use tributary_binlog::TableMap;
use tributary_schema::{Layout, Plan, Scratch};

use crate::rows::{events, tables};

/// Bytes of input reshaped for one figure.
const BYTES: usize = 60 << 20;

/// Seconds this thread has had a processor: other work on the machine does not count.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos: f64 = stat.split(' ').next().expect("real").parse().expect("real");
    nanos / 1e9
}

/// The rows of an event, many times.
fn long(body: &[u8], header: usize, times: usize) -> Vec<u8> {
    let (head, rows) = body.split_at(header);
    let mut out = head.to_vec();
    (0..times).for_each(|_| out.extend_from_slice(rows));
    out
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let (tables, all) = (tables("reshape.txt"), events("reshape.binlog"));
    for name in ["ints", "shape", "texts", "nums", "times", "lists"] {
        let rows = &all[&format!("{name}_from")][0];
        let from =
            Layout::of_event(&TableMap::parse(&rows.map).expect("real"), None).expect("real");
        let to = Layout::of_table(&tables[&format!("{name}_to")]);
        let plan = Plan::new(&from, &to, &[]).expect("real").expect("real");
        let header = 6 + 2 + 2 + 1 + from.columns.len().div_ceil(8);
        let body = long(&rows.body, header, 8192 / rows.body.len() + 1);
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        let started = cpu_seconds();
        let mut done = 0;
        while done < BYTES {
            out.clear();
            plan.rows(rows.event_type, &body, 1, 0, &mut scratch, &mut out)
                .expect("real");
            done += body.len();
        }
        let seconds = cpu_seconds() - started;
        println!(
            "{name}: {:.0} MB/s in, {:.0} MB/s out",
            done as f64 / 1e6 / seconds,
            out.len() as f64 / body.len() as f64 * done as f64 / 1e6 / seconds
        );
    }
}
