//! The comparison finds what it must find, and nothing when there is nothing.

use tributary_tests::cluster::Cluster;
use tributary_tests::compare::{CompareOptions, Comparison, Difference, Mapping, compare};
use tributary_tests::mysqld::Mysqld;

const TABLES: &str = "CREATE DATABASE d;
    CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(20), b VARBINARY(9));
    CREATE TABLE d.keyless (v INT);";

/// Two shards and a server with the union of their rows.
async fn servers() -> (Cluster, Mysqld) {
    let cluster = Cluster::start(2).await.expect("nodes start");
    let whole = cluster
        .start_replica("whole", 900)
        .await
        .expect("a server starts");
    cluster.sql(TABLES).await.expect("tables");
    whole.sql(TABLES).await.expect("tables");
    let row = |id: u32| format!("INSERT INTO d.t VALUES ({id}, 'v{id}', x'00{id:02x}')");
    for id in 0..40 {
        cluster.nodes[id as usize % 2]
            .sql(&row(id))
            .await
            .expect("a row");
        whole.sql(&row(id)).await.expect("a row");
    }
    cluster
        .sql("INSERT INTO d.keyless VALUES (1), (NULL)")
        .await
        .expect("rows");
    whole
        .sql("INSERT INTO d.keyless VALUES (1), (1), (NULL), (NULL)")
        .await
        .expect("rows");
    (cluster, whole)
}

async fn compared(cluster: &Cluster, whole: &Mysqld, options: &CompareOptions) -> Comparison {
    let shards: Vec<_> = cluster.nodes.iter().map(Mysqld::root_opts).collect();
    compare(&shards, &whole.root_opts(), options)
        .await
        .expect("all servers answer")
}

#[tokio::test]
async fn every_kind_of_difference_is_found() {
    let (cluster, whole) = servers().await;
    let options = CompareOptions::default();
    let same = compared(&cluster, &whole, &options).await;
    assert!(same.is_same(), "{same}");
    assert_eq!((same.tables, same.rows), (2, 44));

    whole
        .sql("UPDATE d.t SET v = NULL WHERE id = 7")
        .await
        .expect("a change");
    let changed = compared(&cluster, &whole, &options).await;
    let columns = vec!["v is 'v7', on the replica NULL".to_owned()];
    let expected = Difference::ChangedRow {
        key: "('7')".to_owned(),
        columns,
    };
    assert_eq!(changed.differences, [("d.t".to_owned(), expected)]);
    whole
        .sql("UPDATE d.t SET v = 'v7' WHERE id = 7")
        .await
        .expect("the change is undone");

    whole
        .sql("DELETE FROM d.t WHERE id = 8")
        .await
        .expect("a row goes");
    whole
        .sql("INSERT INTO d.t VALUES (99, '', '')")
        .await
        .expect("a row comes");
    let rows = compared(&cluster, &whole, &options).await;
    let missing = Difference::MissingRow {
        key: "('8')".to_owned(),
    };
    let extra = Difference::ExtraRow {
        key: "('99')".to_owned(),
    };
    let labelled = |difference| ("d.t".to_owned(), difference);
    assert_eq!(rows.differences, [labelled(missing), labelled(extra)]);
    whole
        .sql("DELETE FROM d.t WHERE id = 99; INSERT INTO d.t VALUES (8, 'v8', x'0008')")
        .await
        .expect("undone");

    // A row on two shards at once, as a move that was applied by half leaves it.
    cluster.nodes[0]
        .sql("INSERT INTO d.t VALUES (1, 'v1', x'0001')")
        .await
        .expect("a row");
    let twice = compared(&cluster, &whole, &options).await;
    assert!(
        twice.to_string().contains("row ('1') is 2 times on shards"),
        "{twice}"
    );
    cluster.nodes[0]
        .sql("DELETE FROM d.t WHERE id = 1")
        .await
        .expect("undone");

    whole
        .sql("UPDATE d.keyless SET v = 2 WHERE v = 1 LIMIT 1")
        .await
        .expect("a change");
    let keyless = compared(&cluster, &whole, &options).await;
    assert_eq!(keyless.differences.len(), 2, "{keyless}");
    whole
        .sql("UPDATE d.keyless SET v = 1 WHERE v = 2")
        .await
        .expect("undone");

    whole
        .sql("ALTER TABLE d.t ADD INDEX i (v); CREATE TABLE d.only (i INT)")
        .await
        .expect("DDL");
    cluster
        .sql("CREATE TABLE d.shards (i INT)")
        .await
        .expect("DDL");
    let tables = compared(&cluster, &whole, &options).await;
    assert_eq!(tables.differences.len(), 3, "{tables}");
    assert!(
        tables
            .differences
            .contains(&("d.shards".to_owned(), Difference::MissingTable))
    );
    assert!(
        tables
            .differences
            .contains(&("d.only".to_owned(), Difference::ExtraTable))
    );
}

#[tokio::test]
async fn shards_with_names_of_their_own_become_one_table() {
    let cluster = Cluster::start(2).await.expect("nodes start");
    let whole = cluster
        .start_replica("whole", 900)
        .await
        .expect("a server starts");
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.sql(&format!(
            "CREATE DATABASE d_{number}; CREATE TABLE d_{number}.t_{number} (id INT PRIMARY KEY);
             INSERT INTO d_{number}.t_{number} VALUES ({number});
             CREATE TABLE d_{number}.every (id INT PRIMARY KEY);
             INSERT INTO d_{number}.every VALUES (5)"
        ))
        .await
        .expect("a shard");
    }
    whole
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (0), (1);
              CREATE TABLE d.every (id INT PRIMARY KEY); INSERT INTO d.every VALUES (5)")
        .await
        .expect("the whole");
    let mapping: Mapping = std::sync::Arc::new(|_, table| {
        let table = if table.starts_with("t_") { "t" } else { table };
        Some(("d".to_owned(), table.to_owned()))
    });
    let mut options = CompareOptions {
        mapping,
        ..CompareOptions::default()
    };
    let repeated = compared(&cluster, &whole, &options).await;
    assert!(!repeated.is_same(), "every shard has the broadcast row");
    options.broadcast.insert("d.every".to_owned());
    let same = compared(&cluster, &whole, &options).await;
    assert!(same.is_same(), "{same}");
    assert_eq!(same.rows, 3);
}
