//! What an operator sees: the admin interface, `tributary status`, a clean stop.

use std::time::Duration;

use anyhow::{Result, ensure};
use tributary_tests::bank::BankOptions;
use tributary_tests::service::get;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_goes_on() -> Result<()> {
    let mut world = World::start(|_| {}).await?;
    let replica = world.replica("replica", 201).await?;
    let options = BankOptions {
        transactions: Some(200),
        seed: Some(5),
        ..BankOptions::default()
    };
    let bank = world.bank(options).await?;
    bank.run().await?;
    world.same(&bank, &replica).await?;

    let port = world.service.admin_port();
    for path in ["/healthz", "/readyz"] {
        let (code, body) = get(port, path).await?;
        ensure!(code == 200, "{path}: {code} {body}");
    }
    ensure!(get(port, "/nothing").await?.0 == 404);
    status(&world).await?;
    metrics(&world).await?;

    // A node that is gone is named; the others' state is as before.
    world.cluster.nodes[1].kill9();
    let gone = |s: &tributary_tests::service::Status| {
        s.node_states()
            == [
                ("dn1", "streaming"),
                ("dn2", "retrying"),
                ("dn3", "streaming"),
            ]
            .map(|(n, s)| (n.to_owned(), s.to_owned()))
    };
    world
        .service
        .wait_status("dn2 is missed", Duration::from_secs(30), gone)
        .await?;
    let shown = world.shown().await?;
    ensure!(
        shown.contains("dn2") && shown.contains("retrying"),
        "{shown}"
    );
    world.cluster.nodes[1].launch().await?;
    world.same(&bank, &replica).await?;

    // SIGTERM: everything merged is durable, exit code 0.
    let last = world.last_gno().await?;
    world.service.stop().await?;
    world.service.launch().await?;
    ensure!(world.last_gno().await? == last);
    world.verified().await
}

async fn status(world: &World) -> Result<()> {
    let status = world.service.status().await?.0;
    ensure!(
        status["state"] == "running" && status["order"] == "tso",
        "{status}"
    );
    for (n, node) in status["nodes"].as_array().into_iter().flatten().enumerate() {
        ensure!(
            node["name"] == format!("dn{}", n + 1) && node["state"] == "streaming",
            "{node}"
        );
        ensure!(node["watermark_tso"].as_u64() > Some(0), "{node}");
    }
    ensure!(
        status["store"]["durable_offset"].as_u64() > Some(200),
        "{status}"
    );
    let client = &status["dump_clients"][0];
    ensure!(
        client["user"] == "repl" && client["server_id"] == 201,
        "{client}"
    );
    let shown = world.shown().await?;
    for word in [
        "NODE",
        "dn1",
        "dn3",
        "streaming",
        "merged",
        "durable",
        "Binlog Dump GTID",
    ] {
        ensure!(shown.contains(word), "{word} is not in\n{shown}");
    }
    Ok(())
}

async fn metrics(world: &World) -> Result<()> {
    let (code, page) = get(world.service.admin_port(), "/metrics").await?;
    ensure!(code == 200);
    let value = |name: &str| {
        let line = page
            .lines()
            .find(|l| l.starts_with(name) && !l.starts_with('#'));
        line.and_then(|l| l.rsplit(' ').next())
            .and_then(|v| v.parse::<f64>().ok())
    };
    ensure!(
        value("tributary_merged_transactions_total") > Some(200.0),
        "{page}"
    );
    ensure!(
        value("tributary_node_up{node=\"dn2\"}") == Some(1.0),
        "{page}"
    );
    ensure!(value("tributary_halted") == Some(0.0), "{page}");
    ensure!(
        value("tributary_dump_events_total") > Some(1000.0),
        "{page}"
    );
    Ok(())
}
