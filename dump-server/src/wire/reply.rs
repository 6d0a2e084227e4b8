//! OK, ERR and EOF packets.
//!
//! In: counters, status, an error. Out: payload bytes.

use super::flags::{CapabilityFlags, StatusFlags};

use super::cursor::put_lenenc;
use super::errors::SqlError;

/// Appends an OK packet without an information string.
pub(crate) fn put_ok(affected_rows: u64, status: StatusFlags, out: &mut Vec<u8>) {
    out.push(0);
    put_lenenc(out, affected_rows);
    put_lenenc(out, 0);
    out.extend_from_slice(&status.bits().to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
}

/// Appends an ERR packet.
pub(crate) fn put_err(error: &SqlError, out: &mut Vec<u8>) {
    out.push(0xff);
    out.extend_from_slice(&error.code.to_le_bytes());
    out.push(b'#');
    out.extend_from_slice(error.state.as_bytes());
    out.extend_from_slice(error.message.as_bytes());
}

/// Appends an ERR packet in place of a greeting: it carries no SQLSTATE.
pub(crate) fn put_err_instead_of_greeting(error: &SqlError, out: &mut Vec<u8>) {
    out.push(0xff);
    out.extend_from_slice(&error.code.to_le_bytes());
    out.extend_from_slice(error.message.as_bytes());
}

/// Appends the classic five-byte EOF. A dump ends with it whatever was negotiated.
pub(crate) fn put_eof(status: StatusFlags, out: &mut Vec<u8>) {
    out.push(0xfe);
    out.extend_from_slice(&0u16.to_le_bytes());
    out.extend_from_slice(&status.bits().to_le_bytes());
}

/// Appends the packet that closes a result set: an OK packet marked 0xFE for clients that deprecate EOF.
pub(crate) fn put_result_end(caps: CapabilityFlags, status: StatusFlags, out: &mut Vec<u8>) {
    if caps.contains(CapabilityFlags::CLIENT_DEPRECATE_EOF) {
        let start = out.len();
        put_ok(0, status, out);
        if let Some(marker) = out.get_mut(start) {
            *marker = 0xfe;
        }
    } else {
        put_eof(status, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::errors;

    #[test]
    fn replies_are_the_bytes_mysql_9_7_sends() {
        let auto = StatusFlags::SERVER_STATUS_AUTOCOMMIT;
        let bytes = |f: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            f(&mut out);
            out
        };
        assert_eq!(bytes(&|o| put_ok(0, auto, o)), b"\0\0\0\x02\0\0\0");
        assert_eq!(bytes(&|o| put_eof(auto, o)), b"\xfe\0\0\x02\0");
        let new = CapabilityFlags::CLIENT_DEPRECATE_EOF;
        assert_eq!(
            bytes(&|o| put_result_end(new, auto, o)),
            b"\xfe\0\0\x02\0\0\0"
        );
        let old = CapabilityFlags::empty();
        assert_eq!(bytes(&|o| put_result_end(old, auto, o)), b"\xfe\0\0\x02\0");
        let e = errors::unknown_variable("rpl_semi_sync_source_enabled");
        assert_eq!(
            bytes(&|o| put_err(&e, o)),
            b"\xff\xa9\x04#HY000Unknown system variable 'rpl_semi_sync_source_enabled'"
        );
    }
}
