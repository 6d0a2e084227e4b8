//! What dump clients meet: accounts, TLS, compression, timeouts.
//!
//! In: a valid configuration, and who carries out PURGE and FLUSH. Out: the dump server's settings.

use std::sync::Arc;

use anyhow::Context;
use tributary_dump_server::{
    Account, Accounts, AdminActions, AuthPlugin, Privileges, ServerConfig,
};

use crate::config::{Config, Privilege, ServerTls, User};
use crate::descriptors;
use crate::tls;

/// The dump server's settings.
pub(crate) fn server_config(
    config: &Config,
    admin: Arc<dyn AdminActions>,
) -> anyhow::Result<ServerConfig> {
    let settings = &config.server;
    let versions = settings.tls_versions;
    let tls = match &settings.tls {
        ServerTls::Files(cert, key) => {
            let loaded = tls::from_files(cert, key, versions);
            Some(loaded.context("server.tls_cert and server.tls_key")?)
        }
        ServerTls::Own => {
            let made = tls::own(&config.store.data_dir, versions);
            Some(made.context("a certificate for clients")?)
        }
        ServerTls::Off => None,
    };
    let timeouts = settings.timeouts;
    Ok(ServerConfig {
        tls: tls.map(Arc::new),
        tls_versions: versions.names(),
        compression: settings.compression,
        accounts: Accounts::new(config.users.iter().map(account)),
        max_connections: descriptors::connections(settings.max_connections, config.nodes.len()),
        max_handshakes: settings.max_handshakes,
        handshake_timeout: timeouts.handshake,
        drain_timeout: timeouts.drain,
        wait_timeout: timeouts.wait,
        interactive_timeout: timeouts.interactive,
        net_read_timeout: timeouts.net_read,
        net_write_timeout: timeouts.net_write,
        semi_sync: settings.semi_sync,
        max_binlog_size: config.store.max_binlog_size,
        expire_after: std::time::Duration::from_secs(
            config.store.retention.expire_after.unwrap_or(0),
        ),
        connection_id_base: settings.connection_id_base,
        admin: Some(admin),
        ..ServerConfig::new(settings.server_id, &settings.version)?
    })
}

fn account(user: &User) -> Account {
    let plugin = if user.native_password {
        AuthPlugin::MysqlNativePassword
    } else {
        AuthPlugin::CachingSha2Password
    };
    let has = |privilege| user.privileges.contains(&privilege);
    let privileges = Privileges {
        replication_slave: has(Privilege::ReplicationSlave),
        replication_client: has(Privilege::ReplicationClient),
        admin: has(Privilege::Admin),
    };
    Account::new(&user.name, &user.password.0, plugin, privileges)
        .with_tls_required(user.require_tls)
        .with_full_authentication(user.full_authentication)
}
