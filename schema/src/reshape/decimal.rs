//! Packed decimals (`strings/decimal.cc`): four bytes for nine digits, fewer for the rest, the sign in the first bit,
//! everything inverted for negative numbers.
//!
//! In: bytes of one precision and scale. Out: bytes of another. Groups of nine digits are counted from the point both ways, so
//! that only the outermost group of each side changes its size.

/// Groups of nine digits of the whole part: 65 digits.
const WHOLE: usize = 8;
/// Groups of the fraction: 30 digits.
const FRACTION: usize = 4;

/// Numbers above those of so many digits.
const POWERS: [u32; 10] = {
    let mut powers = [1; 10];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = 10 * powers[at - 1];
        at += 1;
    }
    powers
};

/// 10 to this power, of at most nine.
#[inline]
fn power(digits: usize) -> u32 {
    POWERS.get(digits).copied().unwrap_or(u32::MAX)
}

/// Bytes of n digits.
#[inline]
fn part_len(digits: usize) -> usize {
    digits / 9 * 4 + (digits % 9).div_ceil(2)
}

/// Bytes of a decimal.
pub(super) fn len(precision: u8, scale: u8) -> usize {
    part_len(usize::from(precision.saturating_sub(scale))) + part_len(usize::from(scale))
}

/// A number in groups of nine digits, each side from the point outwards; the last group of the fraction is filled up with
/// zeros behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) negative: bool,
    whole: [u32; WHOLE],
    fraction: [u32; FRACTION],
}

/// Takes the group of so many digits from the front.
#[inline]
fn group(bytes: &mut &[u8], digits: usize, mask: u8) -> Option<u32> {
    let (head, tail) = bytes.split_at_checked(part_len(digits))?;
    *bytes = tail;
    let value = match *head {
        [a] => u32::from(a ^ mask),
        [a, b] => u32::from_be_bytes([0, 0, a ^ mask, b ^ mask]),
        [a, b, c] => u32::from_be_bytes([0, a ^ mask, b ^ mask, c ^ mask]),
        [a, b, c, d] => u32::from_be_bytes([a ^ mask, b ^ mask, c ^ mask, d ^ mask]),
        _ => 0,
    };
    (value < power(digits)).then_some(value)
}

#[inline]
fn put_group(value: u32, digits: usize, mask: u8, out: &mut Vec<u8>) {
    let [a, b, c, d] = value.to_be_bytes().map(|b| b ^ mask);
    match part_len(digits) {
        1 => out.push(d),
        2 => out.extend_from_slice(&[c, d]),
        3 => out.extend_from_slice(&[b, c, d]),
        4 => out.extend_from_slice(&[a, b, c, d]),
        _ => {}
    }
}

/// Reads a decimal; `None` when it is none.
pub(super) fn read(bytes: &[u8], precision: u8, scale: u8) -> Option<Number> {
    let (whole, scale) = (
        usize::from(precision.checked_sub(scale)?),
        usize::from(scale),
    );
    if bytes.len() != part_len(whole) + part_len(scale) || bytes.len() > 40 {
        return None;
    }
    let mut copy = [0_u8; 40];
    let copy = copy.get_mut(..bytes.len())?;
    copy.copy_from_slice(bytes);
    let first = copy.first_mut()?;
    let mut number = Number {
        negative: *first & 0x80 == 0,
        ..Number::default()
    };
    *first ^= 0x80;
    let mask = if number.negative { 0xff } else { 0 };
    let mut rest: &[u8] = copy;
    let groups = whole.div_ceil(9);
    for at in (0..groups).rev() {
        let digits = if at + 1 == groups && !whole.is_multiple_of(9) {
            whole % 9
        } else {
            9
        };
        *number.whole.get_mut(at)? = group(&mut rest, digits, mask)?;
    }
    for at in 0..scale.div_ceil(9) {
        let digits = (scale - at * 9).min(9);
        let value = group(&mut rest, digits, mask)?;
        *number.fraction.get_mut(at)? = value * power(9 - digits);
    }
    Some(number)
}

/// Appends the number with another precision and scale. `None` when it loses digits; `out` is then as it was.
pub(super) fn put(number: &Number, precision: u8, scale: u8, out: &mut Vec<u8>) -> Option<()> {
    let (whole, scale) = (
        usize::from(precision.checked_sub(scale)?),
        usize::from(scale),
    );
    let start = out.len();
    if put_parts(number, whole, scale, out).is_none() {
        out.truncate(start);
        return None;
    }
    *out.get_mut(start)? ^= 0x80;
    Some(())
}

fn put_parts(number: &Number, whole: usize, scale: usize, out: &mut Vec<u8>) -> Option<()> {
    let mask = if number.negative { 0xff } else { 0 };
    let groups = whole.div_ceil(9);
    if number.whole.iter().skip(groups).any(|g| *g != 0) {
        return None;
    }
    for at in (0..groups).rev() {
        let digits = if at + 1 == groups && !whole.is_multiple_of(9) {
            whole % 9
        } else {
            9
        };
        let value = number.whole.get(at).copied().unwrap_or(0);
        if value >= power(digits) {
            return None;
        }
        put_group(value, digits, mask, out);
    }
    if number
        .fraction
        .iter()
        .skip(scale.div_ceil(9))
        .any(|g| *g != 0)
    {
        return None;
    }
    for at in 0..scale.div_ceil(9) {
        let digits = (scale - at * 9).min(9);
        let value = number.fraction.get(at).copied().unwrap_or(0);
        let unit = power(9 - digits);
        if value % unit != 0 {
            return None;
        }
        put_group(value / unit, digits, mask, out);
    }
    Some(())
}

/// The number that a text such as `-12.50` is.
pub(super) fn parse(text: &str) -> Option<Number> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if !all(whole) || !all(fraction) {
        return None;
    }
    let mut number = Number::default();
    let mut rest = whole.trim_start_matches('0');
    for slot in &mut number.whole {
        let at = rest.len().saturating_sub(9);
        let (head, tail) = rest.split_at(at);
        *slot = if tail.is_empty() {
            0
        } else {
            tail.parse().ok()?
        };
        rest = head;
    }
    let mut behind = fraction.trim_end_matches('0');
    for slot in &mut number.fraction {
        let (head, tail) = behind.split_at(behind.len().min(9));
        *slot = format!("{head:0<9}").parse().ok()?;
        behind = tail;
    }
    if !rest.is_empty() || !behind.is_empty() {
        return None;
    }
    number.negative = negative && number != Number::default();
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decimals_come_back(whole in "[0-9]{0,30}", fraction in "[0-9]{0,25}", negative: bool, more in 0..5_u8) {
            prop_assume!(!whole.is_empty() || !fraction.is_empty());
            let (w, f) = (whole.len() as u8, fraction.len() as u8);
            let number = parse(&format!("{}{whole}.{fraction}", if negative { "-" } else { "" })).unwrap();
            let mut bytes = Vec::new();
            put(&number, w + f, f, &mut bytes).unwrap();
            prop_assert_eq!(bytes.len(), len(w + f, f));
            prop_assert_eq!(read(&bytes, w + f, f).unwrap(), number);
            let mut wide = Vec::new();
            put(&number, w + f + 2 * more, f + more, &mut wide).unwrap();
            let back = read(&wide, w + f + 2 * more, f + more).unwrap();
            let mut narrow = Vec::new();
            put(&back, w + f, f, &mut narrow).unwrap();
            prop_assert_eq!(narrow, bytes);
        }

        #[test]
        fn garbage_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), p in 0..80_u8, s in 0..40_u8) {
            if let Some(number) = read(&bytes, p, s) {
                let _ = put(&number, 65, 30, &mut Vec::new());
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let number = parse("123.45").unwrap();
        let mut out = Vec::new();
        assert!(put(&number, 4, 2, &mut out).is_none());
        assert!(put(&number, 10, 1, &mut out).is_none());
        assert!(put(&number, 5, 2, &mut out).is_some());
        assert!(parse("1e5").is_none() && parse(&"9".repeat(80)).is_none());
    }
}
