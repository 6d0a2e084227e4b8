//! Calendar arithmetic in UTC; this server has no other time zone.
//!
//! In: microseconds since 1970, or MySQL's DATETIME text. Out: the other of the two.

const DAY_SECONDS: i64 = 86_400;

/// Microseconds since 1970 as `YYYY-MM-DD hh:mm:ss[.ffffff]` with `digits` (0 to 6) behind the point.
pub(crate) fn datetime(micros: u64, digits: u8) -> String {
    let seconds = (micros / 1_000_000) as i64;
    let (days, of_day) = (
        seconds.div_euclid(DAY_SECONDS),
        seconds.rem_euclid(DAY_SECONDS),
    );
    let (year, month, day) = civil(days);
    let mut text = format!("{year:04}-{month:02}-{day:02} {}", clock(of_day));
    if digits > 0 {
        let fraction = format!("{:06}", micros % 1_000_000);
        text.push('.');
        text.extend(fraction.chars().take(usize::from(digits.min(6))));
    }
    text
}

/// Seconds as `[-]hh:mm:ss`.
pub(crate) fn clock(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let s = seconds.unsigned_abs();
    format!("{sign}{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Seconds of a TIME text (`[-]hh:mm:ss`).
pub(crate) fn clock_seconds(text: &str) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let mut parts = text
        .splitn(3, ':')
        .map(|p| p.split('.').next().unwrap_or_default().parse::<i64>());
    let (hours, minutes, seconds) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    let total = hours
        .checked_mul(3600)?
        .checked_add(minutes.checked_mul(60)?)?
        .checked_add(seconds)?;
    if negative {
        total.checked_neg()
    } else {
        Some(total)
    }
}

/// Seconds since 1970 of a DATETIME text.
pub(crate) fn datetime_seconds(text: &str) -> Option<i64> {
    let (date, time) = text
        .trim()
        .split_once(' ')
        .unwrap_or((text.trim(), "00:00:00"));
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    (days(year, month, day) * DAY_SECONDS).checked_add(clock_seconds(time)?)
}

/// Days since 1970 as year, month, day (proleptic Gregorian; era arithmetic).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        assert_eq!(datetime(0, 0), "1970-01-01 00:00:00");
        assert_eq!(
            datetime(1_795_295_066_561_999, 3),
            "2026-11-21 21:04:26.561"
        );
        assert_eq!(datetime(951_782_400_000_000, 0), "2000-02-29 00:00:00");
        assert_eq!(datetime_seconds("2026-11-21 21:04:26"), Some(1_795_295_066));
        assert_eq!(datetime_seconds("2026-13-21"), None);
        assert_eq!(clock_seconds("-01:00:01"), Some(-3601));
        assert_eq!(clock(-3601), "-01:00:01");
    }

    proptest! {
        #[test]
        fn texts_come_back(seconds in 0u64..253_402_300_800) {
            let text = datetime(seconds * 1_000_000, 0);
            prop_assert_eq!(datetime_seconds(&text), Some(seconds as i64), "{}", text);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,40}") {
            let _ = (datetime_seconds(&text), clock_seconds(&text));
        }
    }
}
