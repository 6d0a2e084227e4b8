//! Rules against names.

use std::sync::Arc;

use super::*;

fn map(from: &str, to: &str) -> RouteRule {
    RouteRule::Map {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn logical(schema: &str, table: &str) -> Routed {
    Routed::Logical {
        schema: schema.to_owned(),
        table: table.to_owned(),
    }
}

fn routes(rules: &[RouteRule]) -> Routes {
    Routes::compile(rules).unwrap_or_else(|p| panic!("{p:?}"))
}

#[test]
fn globs_and_regular_expressions() {
    use NameCase::Exact;
    let r = routes(&[
        map("shop_{*}.orders_*", "shop.orders"),
        map(r"/crm_(\d+)/./(client|account)_\d+/", "crm.${2}"),
        map(r"/^old_(.)\.t(\d)$/", "old.t$2"),
        map("订单_*.明细_*", "订单.明细"),
        map("`a.b`.`x``*`", "`c.d`.`y``z`"),
        map("cost_*.t", "cost$$.t_$1"),
        RouteRule::Broadcast {
            from: "shop_*.city".to_owned(),
            to: Some("shop.city".to_owned()),
        },
        RouteRule::Ignore {
            from: "scratch".to_owned(),
        },
        RouteRule::IgnoreFormatId(7),
    ]);
    for (schema, table, want) in [
        ("shop_1", "orders_22", logical("shop", "orders")),
        ("shop_", "orders_", logical("shop", "orders")),
        ("shop_1", "orders", Routed::Identity),
        ("Shop_1", "orders_2", Routed::Identity),
        ("crm_12", "client_3", logical("crm", "client")),
        ("crm_12", "other_3", Routed::Identity),
        ("xcrm_12", "client_3", Routed::Identity),
        ("old_x", "t7", logical("old", "t7")),
        ("订单_01", "明细_0007", logical("订单", "明细")),
        ("a.b", "x`*", logical("c.d", "y`z")),
        ("a.b", "x`y", Routed::Identity),
        ("cost_a", "t", logical("cost$", "t_a")),
        ("scratch", "anything.at`all", Routed::Ignored),
        ("mysql", "user", Routed::Ignored),
        ("SYS", "x", Routed::Ignored),
        ("shop", "orders", Routed::Identity),
    ] {
        assert_eq!(r.route(schema, table, Exact), want, "{schema}.{table}");
    }
    assert_eq!(
        r.route("shop_9", "city", Exact),
        Routed::Broadcast {
            schema: "shop".to_owned(),
            table: "city".to_owned()
        }
    );
    assert_eq!(
        r.route("SHOP_1", "Orders_2", NameCase::Folded),
        logical("shop", "orders")
    );
    assert!(r.ignores_format_id(7) && !r.ignores_format_id(1));
    assert_eq!(NameCase::from_variable(2), NameCase::Folded);
}

#[test]
fn the_cache_answers_the_same() {
    let r = Arc::new(routes(&[map("s_*.t_*", "s.t")]));
    let mut router = Router::new(Arc::clone(&r), NameCase::Exact);
    for _ in 0..2 {
        assert_eq!(router.route(b"s_1", b"t_1"), &logical("s", "t"));
        assert_eq!(router.route(b"s_1t", b"_1"), &Routed::Identity);
        assert_eq!(router.route(b"s_\xff", b"t_1"), &Routed::Identity);
        assert_eq!(router.route(b"sys", b"t"), &Routed::Ignored);
    }
    assert_eq!(router.cache.len(), 4);
}

#[test]
fn databases() {
    use NameCase::Exact;
    let r = routes(&[
        map("shop_*.orders_*", "shop.orders"),
        map("shop_*.items_*", "shop.items"),
        map("m_*.a", "x.a"),
        map("m_*.b", "y.b"),
        map("keep.t_*", "keep.t"),
        RouteRule::Ignore {
            from: "scratch.*".to_owned(),
        },
        RouteRule::Ignore {
            from: "*.tmp".to_owned(),
        },
    ]);
    let schema = |s: &str| r.route_schema(s, Exact);
    assert_eq!(schema("shop_3"), RoutedSchema::Logical("shop".to_owned()));
    assert_eq!(schema("keep"), RoutedSchema::Logical("keep".to_owned()));
    assert_eq!(
        schema("m_1"),
        RoutedSchema::Several(vec!["x".to_owned(), "y".to_owned()])
    );
    assert_eq!(schema("scratch"), RoutedSchema::Ignored);
    assert_eq!(schema("other"), RoutedSchema::Identity);
    assert_eq!(schema("performance_schema"), RoutedSchema::Ignored);
}

#[test]
fn rules_that_cannot_be_read() {
    for (from, to, words) in [
        ("shop", "shop.orders.x", "not of the form"),
        ("a.b.c", "x.y", "not of the form"),
        ("a.`b", "x.y", "backtick"),
        ("a./b", "x.y", "closing"),
        ("a./(b/", "x.y", "regular expression"),
        ("a./b/c", "x.y", "behind a regular expression"),
        ("a.b_*", "x.y_$2", "1 captures"),
        ("a.b_*", "x.y_*", "$n"),
        ("a.", "x.y", "empty name"),
        ("a.b", "mysql.y", "belongs to the server"),
        ("a.{x}", "x.y", "`{`"),
    ] {
        let problems = Routes::compile(&[map(from, to)]).expect_err(from);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let line = problems[0].to_string();
        assert!(line.contains(words) && line.contains(from), "{line}");
    }
    let twice = [map("a.b", "x.y"), map("a.b", "x.z")];
    let twice = Routes::compile(&twice).expect_err("the same pattern");
    assert_eq!(twice[0].to_string(), "route `a.b` is given twice");
}

#[test]
fn conflicts_are_lines() {
    let r = routes(&[
        map("shop_*.orders_*", "shop.orders"),
        map("shop_1.*", "one.all"),
        map("nothing.*", "no.thing"),
        RouteRule::Broadcast {
            from: "shop_*.copy".to_owned(),
            to: Some("shop.orders".to_owned()),
        },
    ]);
    let tables = [
        ("shop_1", "orders_1"),
        ("shop_2", "orders_1"),
        ("shop_2", "copy"),
        ("shop", "orders"),
        ("mysql", "user"),
    ];
    let lines: Vec<String> = (r.check(tables, NameCase::Exact).iter())
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        lines,
        [
            "table shop_1.orders_1 is claimed by route `shop_*.orders_*` and by route `shop_1.*`",
            "route `nothing.*` matches no table",
            "table shop.orders has the name that route `shop_*.orders_*` gives to other tables",
            "table shop.orders is made of parts by route `shop_*.orders_*` and of copies by route `shop_*.copy`",
        ]
    );
    let clean = routes(&[map("shop_*.orders_*", "shop.orders")]);
    assert!(
        clean
            .check([("shop_1", "orders_1")], NameCase::Exact)
            .is_empty()
    );
    let lines = clean.check(
        [("shop_1", "orders_1"), ("shop_1", "other")],
        NameCase::Exact,
    );
    assert_eq!(lines.len(), 1);
    assert!(lines[0].to_string().contains("its database goes to `shop`"));
}
