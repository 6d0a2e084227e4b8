//! TLS as clients ask for it.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, SslOpts};

use crate::support::{PASSWORD, Running, fixture_log, tls_config};

#[tokio::test]
async fn clients_connect_over_tls_and_in_clear() {
    let running = Running::start(tls_config(), fixture_log()).await;
    let opts = |user: &str, password: &str| {
        let ssl = SslOpts::default()
            .with_danger_accept_invalid_certs(true)
            .with_danger_skip_domain_validation(true);
        OptsBuilder::from_opts(running.opts(user, password)).ssl_opts(Some(ssl))
    };
    for user in ["repl", "maria"] {
        let mut conn = Conn::new(opts(user, PASSWORD)).await.unwrap();
        let row: Option<(String, String)> = conn
            .query_first("SHOW SESSION STATUS LIKE 'Ssl_version'")
            .await
            .unwrap();
        assert_eq!(row, Some(("Ssl_version".into(), "TLSv1.3".into())));
        conn.disconnect().await.unwrap();
    }
    let mut clear = Conn::new(running.opts("repl", PASSWORD)).await.unwrap();
    let row: Option<(String, String)> = clear
        .query_first("SHOW SESSION STATUS LIKE 'Ssl_version'")
        .await
        .unwrap();
    assert_eq!(row, Some(("Ssl_version".into(), String::new())));
    assert!(
        Conn::new(opts("repl", "wrong"))
            .await
            .unwrap_err()
            .to_string()
            .contains("1045")
    );
    running.stop().await;
}

#[tokio::test]
async fn a_binlog_streams_over_tls() {
    use futures_util::StreamExt as _;
    let running = Running::start(tls_config(), fixture_log()).await;
    let ssl = SslOpts::default()
        .with_danger_accept_invalid_certs(true)
        .with_danger_skip_domain_validation(true);
    let opts = OptsBuilder::from_opts(running.opts("repl", PASSWORD)).ssl_opts(Some(ssl));
    let conn = Conn::new(opts).await.unwrap();
    let request = mysql_async::BinlogStreamRequest::new(7).with_non_blocking();
    let mut stream = conn.get_binlog_stream(request).await.unwrap();
    let mut events = 0;
    while let Some(event) = stream.next().await {
        event.unwrap();
        events += 1;
    }
    assert!(events > 60, "{events}");
    running.stop().await;
}
