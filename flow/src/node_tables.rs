//! The tables of a node as the node itself describes them.

use tributary_binlog::GtidSet;

/// The tables of a node at the point from which it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTables {
    /// Whether these are all: the account that asked sees every table.
    pub complete: bool,
    /// Value of `lower_case_table_names`.
    pub lower_case_table_names: u8,
    /// Number of `collation_server`.
    pub server_collation: Option<u16>,
    /// Its databases with their default collations by name.
    pub databases: Vec<(String, String)>,
    /// Tables and views: database, name, and the text of `SHOW CREATE TABLE`.
    pub tables: Vec<(String, String, String)>,
}

/// Where a node that is read for the first time begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStart {
    /// The GTIDs that lie before it.
    pub before: GtidSet,
    /// Its tables there, as far as they are known: at least how it takes names.
    pub tables: NodeTables,
}
