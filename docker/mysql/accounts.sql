-- The accounts of a node in the demo and in the tests. The passwords are the demo's: public, and
-- good for servers that only this machine can reach. Not replicated, so that GTID sets start empty.
SET SESSION sql_log_bin = 0;

-- What Tributary needs on a node: the binlog, its position, and table definitions.
CREATE USER 'repl'@'%' IDENTIFIED WITH caching_sha2_password BY 'repl-demo';
GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'repl'@'%';
-- To let a node that is in use join: branches that are prepared at that moment.
GRANT XA_RECOVER_ADMIN ON *.* TO 'repl'@'%';

-- The coordinator of distributed transactions: XA RECOVER, and original_commit_timestamp.
CREATE USER 'app'@'%' IDENTIFIED WITH caching_sha2_password BY 'app-demo';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, RELOAD ON *.* TO 'app'@'%';
GRANT XA_RECOVER_ADMIN, SESSION_VARIABLES_ADMIN ON *.* TO 'app'@'%';
