//! Reads TOML tables key by key and remembers everything that is wrong with them.
//!
//! In: a table. Out: typed values; problems by key path; keys nobody asked for are problems too.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use toml::Value;

/// What is wrong with a configuration so far.
#[derive(Default)]
pub(crate) struct Problems {
    lines: RefCell<Vec<String>>,
    warnings: RefCell<Vec<String>>,
}

impl Problems {
    pub(crate) fn add(&self, path: &str, what: &str) {
        self.lines.borrow_mut().push(format!("{path}: {what}"));
    }

    pub(crate) fn warn(&self, path: &str, what: &str) {
        self.warnings.borrow_mut().push(format!("{path}: {what}"));
    }

    pub(crate) fn into_lines(self) -> (Vec<String>, Vec<String>) {
        (self.lines.into_inner(), self.warnings.into_inner())
    }
}

/// A table being read. Every key is taken out; what is left at the end is unknown.
pub(crate) struct Table<'p> {
    path: String,
    values: toml::Table,
    reported: BTreeSet<String>,
    problems: &'p Problems,
}

impl<'p> Table<'p> {
    pub(crate) fn root(values: toml::Table, problems: &'p Problems) -> Self {
        Self {
            path: String::new(),
            values,
            reported: BTreeSet::new(),
            problems,
        }
    }

    /// `cluster.order`
    pub(crate) fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn wrong(&mut self, key: &str, what: &str) {
        self.problems.add(&self.path(key), what);
        self.reported.insert(key.to_owned());
    }

    /// Whether a problem with this key has been reported.
    pub(crate) fn reported(&self, key: &str) -> bool {
        self.reported.contains(key)
    }

    /// The table `[key]`; an empty one when it is missing.
    pub(crate) fn table(&mut self, key: &str) -> Self {
        let path = self.path(key);
        let values = match self.values.remove(key) {
            Some(Value::Table(values)) => values,
            None => toml::Table::new(),
            Some(other) => {
                self.wrong(key, &format!("must be a table, not {}", kind(&other)));
                toml::Table::new()
            }
        };
        Self {
            path,
            values,
            reported: BTreeSet::new(),
            problems: self.problems,
        }
    }

    /// The tables `[[key]]`. Their paths carry their name, or their number where they have none.
    pub(crate) fn tables(&mut self, key: &str) -> Vec<Self> {
        let list = match self.values.remove(key) {
            Some(Value::Array(list)) => list,
            None => return Vec::new(),
            Some(other) => {
                self.wrong(
                    key,
                    &format!("must be written [[{key}]], not {}", kind(&other)),
                );
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for (i, value) in list.into_iter().enumerate() {
            let Value::Table(values) = value else {
                self.wrong(key, &format!("must be written [[{key}]]"));
                continue;
            };
            let label = values
                .get("name")
                .and_then(Value::as_str)
                .map_or_else(|| (i + 1).to_string(), str::to_owned);
            let path = format!("{}[{label}]", self.path(key));
            tables.push(Self {
                path,
                values,
                reported: BTreeSet::new(),
                problems: self.problems,
            });
        }
        tables
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        match self.values.remove(key)? {
            Value::String(text) => Some(text),
            other => {
                self.wrong(key, &format!("must be a text, not {}", kind(&other)));
                None
            }
        }
    }

    pub(crate) fn required_text(&mut self, key: &str) -> Option<String> {
        if !self.values.contains_key(key) {
            self.wrong(key, "is missing");
        }
        let text = self.text(key);
        if text.as_deref() == Some("") {
            self.wrong(key, "must not be empty");
            return None;
        }
        text
    }

    pub(crate) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let Value::Array(list) = self.values.remove(key)? else {
            self.wrong(key, "must be a list of texts");
            return None;
        };
        let texts: Option<Vec<String>> =
            list.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        if texts.is_none() {
            self.wrong(key, "must be a list of texts");
        }
        texts
    }

    pub(crate) fn integers(&mut self, key: &str, min: i64, max: i64) -> Option<Vec<i64>> {
        let value = self.values.remove(key)?;
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let numbers: Option<Vec<i64>> = (list.iter())
            .map(|v| v.as_integer().filter(|n| (min..=max).contains(n)))
            .collect();
        if numbers.is_none() || !value.is_array() {
            self.wrong(
                key,
                &format!("must be a list of whole numbers from {min} to {max}"),
            );
        }
        numbers
    }

    /// One text, or a list of them.
    pub(crate) fn text_or_texts(&mut self, key: &str) -> Option<Vec<String>> {
        match self.values.get(key)? {
            Value::Array(_) => self.texts(key),
            _ => self.text(key).map(|text| vec![text]),
        }
    }

    pub(crate) fn one_of(&mut self, key: &str, choices: &[&str]) -> Option<String> {
        let text = self.text(key)?;
        if choices.contains(&text.as_str()) {
            return Some(text);
        }
        self.wrong(
            key,
            &format!("{text:?} is not one of {}", choices.join(", ")),
        );
        None
    }

    pub(crate) fn integer(&mut self, key: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.values.remove(key)?;
        let number = value.as_integer().and_then(|n| u64::try_from(n).ok());
        let valid = number.filter(|n| (min..=max).contains(n));
        if valid.is_none() {
            self.wrong(key, &format!("must be a whole number from {min} to {max}"));
        }
        valid
    }

    /// A size in bytes: a whole number, or a text such as `512MiB`.
    pub(crate) fn size(&mut self, key: &str, min: u64, max: u64) -> Option<u64> {
        let size = match self.values.remove(key)? {
            Value::Integer(n) => u64::try_from(n).ok(),
            Value::String(text) => text.parse::<bytesize::ByteSize>().ok().map(|s| s.as_u64()),
            _ => None,
        };
        let valid = size.filter(|n| (min..=max).contains(n));
        if valid.is_none() {
            let (min, max) = (bytesize::ByteSize(min), bytesize::ByteSize(max));
            self.wrong(
                key,
                &format!("must be a size such as \"512MiB\", from {min} to {max}"),
            );
        }
        valid
    }

    /// A time such as `7d`: a whole number of days, hours, minutes or seconds, more than none.
    pub(crate) fn duration(&mut self, key: &str) -> Option<Duration> {
        let text = self.text(key)?;
        let parsed = parse_duration(&text);
        if parsed.is_none() {
            self.wrong(
                key,
                &format!("{text:?} is not a time such as \"7d\", \"12h\", \"30m\" or \"90s\""),
            );
        }
        parsed
    }

    pub(crate) fn boolean(&mut self, key: &str) -> Option<bool> {
        match self.values.remove(key)? {
            Value::Boolean(yes) => Some(yes),
            other => {
                self.wrong(key, &format!("must be true or false, not {}", kind(&other)));
                None
            }
        }
    }

    pub(crate) fn address(&mut self, key: &str) -> Option<SocketAddr> {
        let text = self.text(key)?;
        let address = text.parse().ok();
        if address.is_none() {
            self.wrong(
                key,
                &format!("{text:?} is not an address with a port, such as 127.0.0.1:3307"),
            );
        }
        address
    }

    /// What nobody asked for is unknown.
    pub(crate) fn finish(mut self) {
        for key in std::mem::take(&mut self.values).keys() {
            self.wrong(key, "unknown key");
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let number = number.parse::<u32>().ok().filter(|n| *n > 0)?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
