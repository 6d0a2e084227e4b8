-- Makes the fresh server a replica of Tributary. Replication starts by itself when the server
-- starts for good, and waits until Tributary is there.
CHANGE REPLICATION SOURCE TO
    SOURCE_HOST = 'tributary', SOURCE_PORT = 3307,
    SOURCE_USER = 'repl', SOURCE_PASSWORD = 'repl-demo',
    SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1,
    SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 86400;
