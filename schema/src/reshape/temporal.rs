//! Times in the binlog (`sql-common/my_time.cc`): whole seconds big-endian, then as many bytes of fraction as the digits need.
//!
//! In: bytes with one number of digits, or texts of defaults. Out: bytes with another.

use crate::table::DataType;

/// Bytes of a fraction.
pub(super) fn fraction_len(fsp: u8) -> usize {
    usize::from(fsp.div_ceil(2))
}

/// Microseconds in one unit of the stored fraction.
fn unit(fsp: u8) -> u32 {
    match fsp.div_ceil(2) {
        0 => 1_000_000,
        1 => 10_000,
        2 => 100,
        _ => 1,
    }
}

#[inline]
fn read_be(bytes: &[u8]) -> u64 {
    match *bytes {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a, b, c] => u64::from(u32::from_be_bytes([0, a, b, c])),
        _ => bytes.iter().fold(0, |acc, b| acc << 8 | u64::from(*b)),
    }
}

#[inline]
fn put_be(value: u64, len: usize, out: &mut Vec<u8>) {
    let len = len.min(8);
    let end = out.len() + len;
    // Eight bytes at once are cheaper than a number that is not known.
    let bytes = value.checked_shl(64 - 8 * len as u32).unwrap_or(0);
    out.extend_from_slice(&bytes.to_be_bytes());
    out.truncate(end);
}

/// Whether `fsp` digits hold the microseconds.
fn fits(micros: u64, fsp: u8) -> bool {
    let unit = [1_000_000_u32, 100_000, 10_000, 1_000, 100, 10, 1];
    let unit = unit.get(usize::from(fsp)).copied().unwrap_or(1);
    fsp >= 6 || (micros as u32).is_multiple_of(unit)
}

/// A DATETIME (`whole` = 5) or TIMESTAMP (4) with another number of digits. `None` when digits would be lost.
pub(super) fn refraction(
    bytes: &[u8],
    whole: usize,
    from: u8,
    to: u8,
    out: &mut Vec<u8>,
) -> Option<()> {
    let (head, fraction) = bytes.split_at_checked(whole)?;
    let micros = read_be(fraction) * u64::from(unit(from));
    if fraction.len() != fraction_len(from) || !fits(micros, to) {
        return None;
    }
    out.extend_from_slice(head);
    put_be(micros / u64::from(unit(to)), fraction_len(to), out);
    Some(())
}

/// A TIME with another number of digits. `None` when digits would be lost.
pub(super) fn time(bytes: &[u8], from: u8, to: u8, out: &mut Vec<u8>) -> Option<()> {
    let packed = read_time(bytes, from)?;
    let micros = packed.unsigned_abs() & 0xff_ffff;
    if !fits(micros, to) {
        return None;
    }
    put_time(packed, to, out);
    Some(())
}

/// Sign, hours, minutes, seconds << 24 | microseconds (`my_time_packed_from_binary`).
fn read_time(bytes: &[u8], fsp: u8) -> Option<i64> {
    if bytes.len() != 3 + fraction_len(fsp) {
        return None;
    }
    if fsp > 4 {
        return Some(read_be(bytes).cast_signed() - 0x8000_0000_0000);
    }
    let (head, fraction) = bytes.split_at_checked(3)?;
    let mut whole = read_be(head).cast_signed() - 0x80_0000;
    let mut part = read_be(fraction).cast_signed();
    if whole < 0 && part > 0 {
        whole += 1;
        part -= 1 << (8 * fraction.len());
    }
    Some((whole << 24) + part * i64::from(unit(fsp)) * i64::from(fsp > 0))
}

fn put_time(packed: i64, fsp: u8, out: &mut Vec<u8>) {
    if fsp > 4 {
        return put_be((packed + 0x8000_0000_0000).cast_unsigned(), 6, out);
    }
    put_be(((packed >> 24) + 0x80_0000).cast_unsigned(), 3, out);
    let part = packed % (1 << 24) / i64::from(unit(fsp));
    put_be(part.cast_unsigned(), fraction_len(fsp), out);
}

/// A DATE (3 bytes, little-endian) as a DATETIME.
pub(super) fn date_to_datetime(bytes: &[u8], fsp: u8, out: &mut Vec<u8>) -> Option<()> {
    let [a, b, c] = *bytes else { return None };
    let date = u64::from(u32::from_le_bytes([a, b, c, 0]));
    let (year, month, day) = (date >> 9, date >> 5 & 15, date & 31);
    put_be(
        ((year * 13 + month) << 5 | day) << 17 | 0x80_0000_0000,
        5,
        out,
    );
    put_be(0, fraction_len(fsp), out);
    Some(())
}

/// A number made of digits only.
fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Microseconds of the digits behind the point.
fn micros(text: &str) -> Option<u64> {
    let text = text.get(..6).unwrap_or(text);
    if text.is_empty() {
        return Some(0);
    }
    Some(digits(text)? * 10_u64.pow(6 - text.len() as u32))
}

fn ymd(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split('-').map(digits);
    let ymd = (parts.next()??, parts.next()??, parts.next()??);
    (ymd.0 < 10_000 && ymd.1 < 13 && ymd.2 < 32 && parts.next().is_none()).then_some(ymd)
}

/// (hours << 12 | minutes << 6 | seconds, microseconds)
fn hms(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':').map(digits);
    let (h, m) = (parts.next()??, parts.next()??);
    let s = parts.next().map_or(Some(0), |s| s)?;
    (h < 839 && m < 60 && s < 60).then_some((h << 12 | m << 6 | s, micros(fraction)?))
}

/// The bytes of `2020-01-02` as a DATE.
pub(super) fn parse_date(text: &str) -> Option<Vec<u8>> {
    let (y, m, d) = ymd(text.trim())?;
    let date = (y << 9 | m << 5 | d) as u32;
    date.to_le_bytes().get(..3).map(<[u8]>::to_vec)
}

/// The bytes of `-10:00:00.5` as a TIME.
pub(super) fn parse_time(text: &str, fsp: u8) -> Option<Vec<u8>> {
    let text = text.trim();
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let (whole, micros) = hms(text)?;
    let packed = (whole << 24 | micros).cast_signed();
    let mut out = Vec::new();
    put_time(if negative { -packed } else { packed }, fsp, &mut out);
    Some(out)
}

/// The bytes of `2020-01-02 03:04:05.6` as a DATETIME.
pub(super) fn parse_datetime(text: &str, fsp: u8) -> Option<Vec<u8>> {
    let (date, time) = text
        .trim()
        .split_once([' ', 'T'])
        .unwrap_or((text.trim(), "00:00:00"));
    let ((y, m, d), (time, micros)) = (ymd(date)?, hms(time)?);
    let mut out = Vec::new();
    put_be(
        ((y * 13 + m) << 5 | d) << 17 | time | 0x80_0000_0000,
        5,
        &mut out,
    );
    put_be(micros / u64::from(unit(fsp)), fraction_len(fsp), &mut out);
    Some(out)
}

/// The bytes of `2020-01-02 03:04:05.6` UTC as a TIMESTAMP.
pub(super) fn parse_timestamp(text: &str, fsp: u8) -> Option<Vec<u8>> {
    let (date, time) = text
        .trim()
        .split_once([' ', 'T'])
        .unwrap_or((text.trim(), "00:00:00"));
    let ((y, m, d), (time, micros)) = (ymd(date)?, hms(time)?);
    let seconds = if (y, m, d) == (0, 0, 0) {
        0
    } else {
        let clock = (time >> 12) * 3600 + (time >> 6 & 63) * 60 + (time & 63);
        days(y, m, d)? * 86_400 + clock
    };
    Some(timestamp(u32::try_from(seconds).ok()?, micros as u32, fsp))
}

/// A TIMESTAMP.
pub(super) fn timestamp(seconds: u32, micros: u32, fsp: u8) -> Vec<u8> {
    let mut out = seconds.to_be_bytes().to_vec();
    put_be(u64::from(micros / unit(fsp)), fraction_len(fsp), &mut out);
    out
}

/// Days since 1970-01-01; `None` before.
fn days(y: u64, m: u64, d: u64) -> Option<u64> {
    // Years begin in March, so that the leap day is the last.
    let (y, m) = if m > 2 {
        (y, m - 3)
    } else {
        (y.checked_sub(1)?, m + 9)
    };
    (y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + d).checked_sub(719_469)
}

/// What `CURRENT_TIMESTAMP` is in a column of this type; `None` for types that cannot have it.
pub(super) fn now(data_type: &DataType, seconds: u32) -> Option<Vec<u8>> {
    match data_type {
        DataType::Timestamp(fsp) => Some(timestamp(seconds, 0, *fsp)),
        DataType::DateTime(fsp) => Some(datetime(seconds, *fsp)),
        _ => None,
    }
}

/// A DATETIME in UTC.
pub(super) fn datetime(seconds: u32, fsp: u8) -> Vec<u8> {
    let (mut day, clock) = (u64::from(seconds) / 86_400, u64::from(seconds) % 86_400);
    day += 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let m = (5 * of_year + 2) / 153;
    let d = of_year - (153 * m + 2) / 5 + 1;
    let (y, m) = if m < 10 {
        (year + era * 400, m + 3)
    } else {
        (year + era * 400 + 1, m - 9)
    };
    let time = (clock / 3600) << 12 | (clock / 60 % 60) << 6 | (clock % 60);
    let mut out = Vec::new();
    put_be(
        ((y * 13 + m) << 5 | d) << 17 | time | 0x80_0000_0000,
        5,
        &mut out,
    );
    put_be(0, fraction_len(fsp), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree() {
        for (text, seconds) in [
            ("1970-01-01 00:00:01", 1),
            ("2000-02-29 12:34:56", 951_827_696),
            ("2038-01-19 03:14:07", 2_147_483_647),
            ("2100-03-01 00:00:00", 4_107_542_400),
        ] {
            assert_eq!(
                parse_timestamp(text, 0).unwrap(),
                timestamp(seconds, 0, 0),
                "{text}"
            );
            assert_eq!(
                parse_datetime(text, 0).unwrap(),
                datetime(seconds, 0),
                "{text}"
            );
        }
    }

    #[test]
    fn negative_times_come_back() {
        for text in [
            "-00:00:00.01",
            "-838:59:58.99",
            "-00:00:01",
            "00:00:00",
            "12:34:56.78",
        ] {
            let narrow = parse_time(text, 2).unwrap();
            for fsp in [2, 3, 4, 5, 6] {
                let mut wide = Vec::new();
                time(&narrow, 2, fsp, &mut wide).unwrap();
                assert_eq!(wide, parse_time(text, fsp).unwrap(), "{text} {fsp}");
                let mut back = Vec::new();
                time(&wide, fsp, 2, &mut back).unwrap();
                assert_eq!(back, narrow);
            }
        }
        assert!(
            time(
                &parse_time("00:00:00.05", 2).unwrap(),
                2,
                1,
                &mut Vec::new()
            )
            .is_none()
        );
    }
}
