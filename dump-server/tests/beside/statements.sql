# Statements asked of MySQL 9.7 and of this server, one a line.
SELECT 1
SELECT VERSION()
SELECT @@version, @@version_comment
SELECT DATABASE(), USER(), CURRENT_USER()
SELECT @@GLOBAL.SERVER_ID
SELECT @@server_id AS server_id
SELECT @@global.server_uuid
SELECT @@GLOBAL.GTID_MODE, @@gtid_mode
SELECT @@global.gtid_executed, @@global.gtid_purged
SELECT @@global.binlog_checksum AS checksum, @@log_bin, @@binlog_format
SELECT @@max_allowed_packet,@@wait_timeout
SELECT @@lower_case_table_names
SELECT @@character_set_server
SELECT @@global.rpl_semi_sync_master_enabled
SELECT @@nosuch
SELECT @@global.nosuch
SELECT @@session.server_id
SELECT @@global.timestamp
SELECT @nosuch
SELECT 1, 'a', NULL, -7, 2.50, 1e3
SELECT 1+1, 7 DIV 2, 7 % 4, 2*3.5
SELECT 'a' = 'A', 1 < 2, NULL IS NULL, NOT 1
SELECT UUID() IS NOT NULL
SELECT CONNECTION_ID() > 0
SELECT IF(1, 'yes', 'no'), IFNULL(NULL, 3), COALESCE(NULL, NULL, 'x')
SELECT CONCAT('a', 1, 'b'), UPPER('abc'), LOWER('ABC'), LENGTH('äb'), CHAR_LENGTH('äb')
SELECT TIME_TO_SEC(TIMEDIFF(NOW(), UTC_TIMESTAMP()))
SELECT GTID_SUBSET('5710ff26-e5e4-11f1-ac34-02fc00000001:1-5', '5710ff26-e5e4-11f1-ac34-02fc00000001:1-9')
SELECT GTID_SUBTRACT('5710ff26-e5e4-11f1-ac34-02fc00000001:1-14', '5710ff26-e5e4-11f1-ac34-02fc00000001:3-4')
SELECT GTID_SUBTRACT('5710ff26-e5e4-11f1-ac34-02fc00000001:14-14', '')
SELECT GTID_SUBTRACT('garbage', '')
SELECT GTID_SUBSET('a')
SELECT binlog_gtid_pos('binlog.000001', 4)
SELECT CAST('12' AS SIGNED), CAST(5 AS CHAR)
SELECT CASE WHEN 1 = 2 THEN 'a' ELSE 'b' END
SELECT 1 AS `a b`, 2 `c`
SELECT 1 FROM DUAL WHERE 1 = 0
SELECT 1 LIMIT 0
SELECT NULL
SELECT 'it''s', "double", 'a\'b'
SELECT
SELEC 1
SELECT 1 FRM x
SELECT nosuch
SELECT * FROM nosuch
SELECT * FROM shop.nosuch
SELECT * FROM nosuchdb.t
SELECT nosuch() 
SELECT * FROM information_schema.nosuch
SELECT nosuch FROM information_schema.schemata
SET NAMES utf8mb4
SET NAMES 'binary'
SET NAMES latin1
SELECT @@character_set_client, @@character_set_results, @@collation_connection
SET NAMES utf8mb4 COLLATE utf8mb4_bin
SELECT @@collation_connection
SET NAMES klingon
SET NAMES utf8mb4
SET character_set_results = NULL
SET character_set_results = utf8mb4
SET @a = 1, @b = 'x', @c = 2.5, @d = NULL, @e = @@global.binlog_checksum
SELECT @a, @b, @c, @d, @e
SET @a := @a + 1, @f = CONCAT(@b, 'y')
SELECT @a, @f
SET @slave_uuid = uuid(), @replica_uuid = uuid()
SET autocommit=0
SELECT @@autocommit
SET autocommit=1
SET SESSION wait_timeout = 100, net_write_timeout=7200, @@session.net_read_timeout = 99
SELECT @@wait_timeout, @@net_write_timeout, @@net_read_timeout
SET wait_timeout = DEFAULT
SELECT @@wait_timeout
SET wait_timeout = 'abc'
SET server_id = 5
SET nosuch = 1
SET @@session.nosuch = 1
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ
SET TRANSACTION ISOLATION LEVEL READ COMMITTED
SET SESSION TRANSACTION READ ONLY
SELECT @@transaction_isolation, @@transaction_read_only
SET SESSION TRANSACTION READ WRITE
SET sql_mode = 'ANSI_QUOTES'
SELECT @@sql_mode
SET sql_mode = DEFAULT
SET SESSION lock_wait_timeout=10, innodb_lock_wait_timeout=10
SET time_zone = '+00:00'
SELECT @@time_zone
BEGIN
SELECT 1
COMMIT
START TRANSACTION
ROLLBACK
START TRANSACTION WITH CONSISTENT SNAPSHOT
START TRANSACTION READ ONLY
COMMIT WORK
ROLLBACK AND NO CHAIN
UNLOCK TABLES
USE shop
SELECT DATABASE()
USE nosuch
SHOW DATABASES LIKE 'sh%'
SHOW SCHEMAS LIKE 'shop'
SHOW TABLES
SHOW TABLES FROM shop
SHOW TABLES LIKE 'it%'
SHOW TABLES FROM nosuch
SHOW FULL TABLES IN `shop` WHERE Table_type = 'BASE TABLE'
SHOW FULL TABLES FROM shop LIKE '%s'
SHOW CREATE TABLE `shop`.`items`
SHOW CREATE TABLE notes
SHOW CREATE TABLE shop.nosuch
SHOW CREATE DATABASE shop
SHOW CREATE SCHEMA IF NOT EXISTS `shop`
SHOW COLUMNS FROM shop.items
SHOW FULL COLUMNS FROM items FROM shop
SHOW FIELDS IN items LIKE 'n%'
SHOW COLUMNS FROM shop.nosuch
DESC shop.items
DESCRIBE items
DESCRIBE items name
EXPLAIN shop.notes
SHOW INDEX FROM shop.items
SHOW KEYS FROM notes
SHOW INDEXES IN items IN shop
SHOW TABLE STATUS FROM shop LIKE 'items'
SHOW ENGINES
SHOW CHARSET LIKE 'utf8mb4'
SHOW CHARACTER SET WHERE Charset = 'latin1'
SHOW COLLATION LIKE 'utf8mb4_general_ci'
SHOW COLLATION WHERE Id = 255
SHOW WARNINGS
SHOW ERRORS
SHOW WARNINGS LIMIT 1
SHOW COUNT(*) WARNINGS
SHOW COUNT(*) ERRORS
SHOW PLUGINS
SHOW PRIVILEGES
SHOW TRIGGERS
SHOW TRIGGERS FROM shop
SHOW EVENTS FROM shop
SHOW PROCEDURE STATUS WHERE Db = 'shop'
SHOW FUNCTION STATUS LIKE 'nosuch'
SHOW OPEN TABLES FROM shop LIKE 'nosuch'
SHOW PROFILES
SHOW GRANTS
SHOW GRANTS FOR CURRENT_USER
SHOW GRANTS FOR CURRENT_USER()
SHOW GRANTS FOR 'nosuch'@'%'
SHOW PROCESSLIST
SHOW FULL PROCESSLIST
SHOW BINARY LOGS
SHOW MASTER LOGS
SHOW BINARY LOG STATUS
SHOW MASTER STATUS
SHOW BINLOG EVENTS
SHOW BINLOG EVENTS LIMIT 1
SHOW BINLOG EVENTS LIMIT 2, 3
SHOW BINLOG EVENTS IN 'binlog.000002'
SHOW BINLOG EVENTS IN 'binlog.000002' FROM 4 LIMIT 3
SHOW BINLOG EVENTS IN 'binlog.000003' LIMIT 1, 2
SHOW BINLOG EVENTS IN 'nosuch.000001'
SHOW BINLOG EVENTS IN 'binlog.000002' FROM 99999999
SHOW BINLOG EVENTS IN 'binlog.000002' FROM 140
SHOW BINLOG EVENTS IN 'binlog.000002' FROM 1
SHOW BINLOG EVENTS IN ''
SHOW REPLICAS
SHOW SLAVE HOSTS
SHOW REPLICA STATUS
SHOW SLAVE STATUS
SHOW REPLICA STATUS FOR CHANNEL ''
SHOW RELAYLOG EVENTS
SHOW VARIABLES LIKE 'SERVER_ID'
SHOW VARIABLES LIKE 'BINLOG_ROW_METADATA';
SHOW GLOBAL VARIABLES LIKE 'binlog_format'
SHOW GLOBAL VARIABLES LIKE 'BINLOG_CHECKSUM'
SHOW VARIABLES LIKE 'binlog_row_%'
SHOW VARIABLES LIKE 'rds\_%'
SHOW VARIABLES LIKE 'gtid_mode'
SHOW VARIABLES LIKE 'log_slave_updates'
SHOW VARIABLES WHERE Variable_name IN ('character_set_server','collation_server')
SHOW VARIABLES WHERE Variable_name = 'sql_mode'
SHOW VARIABLES WHERE (Variable_name = 'log_bin' AND upper(Value) = 'ON') OR (Variable_name = 'binlog_format' AND upper(Value) = 'ROW')
SHOW SESSION VARIABLES LIKE 'autocommit'
SHOW LOCAL VARIABLES LIKE 'tx_isolation'
SHOW VARIABLES
SHOW GLOBAL VARIABLES
SHOW VARIABLES LIKE
SHOW STATUS LIKE 'Ssl_version'
SHOW SESSION STATUS LIKE 'Ssl_cipher'
SHOW GLOBAL STATUS LIKE 'Uptime_since%'
SHOW STATUS LIKE 'Compression%'
SHOW STATUS WHERE Variable_name = 'Threads_running'
SHOW NOSUCH
SHOW
SELECT schema_name, default_character_set_name, default_collation_name FROM information_schema.schemata WHERE schema_name = 'shop'
SELECT * FROM information_schema.schemata WHERE SCHEMA_NAME = 'shop'
SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION, TABLE_COMMENT FROM information_schema.tables WHERE TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME
SELECT * FROM information_schema.columns WHERE TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME, ORDINAL_POSITION
SELECT TABLE_NAME,COLUMN_NAME, DATA_TYPE, CHARACTER_SET_NAME, ORDINAL_POSITION, COLUMN_TYPE, DATETIME_PRECISION, COLUMN_KEY FROM `information_schema`.`COLUMNS` WHERE TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME, ORDINAL_POSITION
SELECT TABLE_NAME, NON_UNIQUE, INDEX_NAME, SEQ_IN_INDEX, COLUMN_NAME, COLLATION, SUB_PART, PACKED, NULLABLE, INDEX_TYPE, COMMENT, INDEX_COMMENT, IS_VISIBLE, EXPRESSION FROM information_schema.statistics WHERE TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX
SELECT * FROM information_schema.key_column_usage WHERE TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION
SELECT * FROM information_schema.table_constraints WHERE TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME, CONSTRAINT_NAME
SELECT * FROM information_schema.referential_constraints WHERE CONSTRAINT_SCHEMA = 'shop'
SELECT COUNT(*) FROM information_schema.columns WHERE TABLE_SCHEMA = 'shop'
SELECT COLLATION_NAME,CHARACTER_SET_NAME,ID,IS_DEFAULT from INFORMATION_SCHEMA.COLLATIONS
SELECT * FROM information_schema.character_sets WHERE CHARACTER_SET_NAME = 'utf8mb4'
SELECT TABLES.TABLE_NAME, CCSA.CHARACTER_SET_NAME FROM INFORMATION_SCHEMA.TABLES LEFT JOIN information_schema.COLLATION_CHARACTER_SET_APPLICABILITY AS CCSA ON TABLES.TABLE_COLLATION = CCSA.COLLATION_NAME WHERE TABLES.TABLE_SCHEMA = 'shop' ORDER BY 1
SELECT PLUGIN_NAME, PLUGIN_STATUS FROM information_schema.plugins WHERE PLUGIN_NAME LIKE 'group_replication'
SELECT ENGINE, SUPPORT FROM information_schema.engines WHERE ENGINE = 'InnoDB'
SELECT * FROM information_schema.triggers
SELECT * FROM information_schema.routines WHERE ROUTINE_SCHEMA = 'shop'
SELECT * FROM information_schema.events
SELECT * FROM information_schema.views WHERE TABLE_SCHEMA = 'shop'
SELECT USER, COMMAND FROM information_schema.processlist WHERE ID = CONNECTION_ID()
SELECT VARIABLE_VALUE FROM performance_schema.global_variables WHERE VARIABLE_NAME = 'server_id'
SELECT MEMBER_STATE FROM performance_schema.replication_group_members
SELECT COUNT(*) FROM performance_schema.replication_applier_status_by_worker
SELECT COUNT(*) FROM performance_schema.replication_applier_status
SELECT COUNT(*) FROM performance_schema.replication_applier_configuration
SELECT COUNT(*) FROM performance_schema.replication_asynchronous_connection_failover
SELECT COUNT(*) FROM performance_schema.threads WHERE 1 = 0
SELECT ATTR_NAME FROM performance_schema.session_connect_attrs WHERE 1 = 0
SELECT LOCAL->>'$.gtid_executed' IS NOT NULL FROM performance_schema.log_status
SELECT * FROM ( SELECT CASE WHEN ((SELECT count(*) from information_schema.plugins WHERE PLUGIN_NAME LIKE 'group_replication') <> 1) THEN (SELECT 2) ELSE 3 END AS QUORUM ) AS t
KILL 99999999
KILL QUERY 99999999
PURGE BINARY LOGS TO 'nosuch.000009'
PURGE MASTER LOGS TO 'nosuch.000009'
PURGE BINARY LOGS
DO 1
CREATE TABLE shop.x (
LOCK TABLES FOR BACKUP
/* comment */ SELECT /* c */ 1 -- end
/*!80000 SELECT 5 */
/*!99999 SELECT 5 */ SELECT 6
SELECT 1;
;
SELECT 1; SELECT 2
