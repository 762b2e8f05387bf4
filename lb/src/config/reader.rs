//! Reads the file's mappings: typed values with defaults, and every fault with the path of its key.
//!
//! No other module sees the YAML parser. A key without a value has its default, like a key that is not
//! there. After a fault the default stands in, so that reading goes on and finds the other faults.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, time::Duration};

use ringmaster_fleet::ReplicaName;
use serde_yaml::{Mapping, Value};

use super::{
    fault::{Fault, quoted},
    forms::{Form, NAME},
    nearest::nearest,
};

/// One day: no wait of this program makes sense for longer.
const DURATION_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Reads a whole file: what `read` makes of its top mapping, or every fault.
pub(super) fn read_file<T>(
    text: &str,
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> Result<T, Vec<Fault>> {
    let file = serde_yaml::from_str(text)
        .map_err(|error| vec![Fault::new("", format!("not YAML: {error}"))])?;
    let mut faults = Vec::new();
    let file = read_section(String::new(), file, &mut faults, read);
    if faults.is_empty() { Ok(file) } else { Err(faults) }
}

/// Hands the mapping `section` to `read`, then reports the keys that `read` didn't ask for.
fn read_section<T>(
    path: String,
    section: Value,
    faults: &mut Vec<Fault>,
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> T {
    let entries = match section {
        Value::Mapping(entries) => entries,
        Value::Null => Mapping::new(),
        other => {
            faults.push(Fault::new(&path, format!("{}: not a mapping", shown(&other))));
            Mapping::new()
        }
    };
    let mut reader = Reader { path, entries, keys: Vec::new(), faults };
    let section = read(&mut reader);
    reader.report_unknown_keys();
    section
}

/// One mapping of the file.
pub(super) struct Reader<'a> {
    /// Empty for the top mapping.
    path: String,
    /// What has not been asked for yet.
    entries: Mapping,
    /// What has been asked for.
    keys: Vec<&'static str>,
    faults: &'a mut Vec<Fault>,
}

impl Reader<'_> {
    /// Whether the file gives a value to `key`. To be asked before the value is read.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| !value.is_null())
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.value(key, default, "true or false", Value::as_bool)
    }

    pub(super) fn number<N>(&mut self, key: &'static str, default: N, range: RangeInclusive<N>) -> N
    where
        N: Display + PartialOrd + TryFrom<u64>,
    {
        let name = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(key, default, &name, |value| {
            N::try_from(value.as_u64()?).ok().filter(|number| range.contains(number))
        })
    }

    /// A number, with or without decimals, that `accepts` takes.
    pub(super) fn decimal(
        &mut self,
        key: &'static str,
        default: f64,
        name: &str,
        accepts: impl Fn(f64) -> bool,
    ) -> f64 {
        self.value(key, default, name, |value| value.as_f64().filter(|&number| accepts(number)))
    }

    /// Milliseconds, at least one.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.milliseconds(key, default, 1)
    }

    /// Milliseconds; none switch off what they are for.
    pub(super) fn duration_or_zero(&mut self, key: &'static str, default: Duration) -> Duration {
        self.milliseconds(key, default, 0)
    }

    pub(super) fn text<T>(&mut self, key: &'static str, default: T, form: &Form<T>) -> T {
        self.value(key, default, form.name, |value| (form.parse)(value.as_str()?))
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.value(key, default, &format!("one of {}", words.join(", ")), |value| {
            let text = value.as_str()?;
            choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
        })
    }

    /// A list of texts.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        form: &Form<T>,
    ) -> Vec<T> {
        self.items(key, default, form, |item| item)
    }

    /// A list of texts, of which some may be written as numbers.
    pub(super) fn words<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        form: &Form<T>,
    ) -> Vec<T> {
        self.items(key, default, form, |item| match item {
            Value::Number(number) => Value::String(number.to_string()),
            item => item,
        })
    }

    fn items<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        form: &Form<T>,
        text: impl Fn(Value) -> Value,
    ) -> Vec<T> {
        let Some(items) = self.list(key) else { return default };
        let parse = |(index, item)| self.parse_text(&format!("{key}[{index}]"), &text(item), form);
        items.into_iter().enumerate().filter_map(parse).collect()
    }

    /// A mapping of texts to texts; empty unless given.
    pub(super) fn texts_by_text<N: Ord, T>(
        &mut self,
        key: &'static str,
        names: &Form<N>,
        form: &Form<T>,
    ) -> BTreeMap<N, T> {
        self.pairs(key, names, form).into_iter().collect()
    }

    /// The same in the order of the file, for names that may mean the same although they differ.
    pub(super) fn pairs<N, T>(
        &mut self,
        key: &'static str,
        names: &Form<N>,
        form: &Form<T>,
    ) -> Vec<(N, T)> {
        let entries = self.mapping(key).unwrap_or_default();
        let parse = |(name, text): (Value, Value)| {
            let text = self.parse_text(&format!("{key}.{}", bare(&name)), &text, form);
            Some((self.parse_text(key, &name, names)?, text?))
        };
        entries.into_iter().filter_map(parse).collect()
    }

    /// A mapping with keys of its own.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        let section = self.take(key).unwrap_or_default();
        read_section(self.path_of(key), section, self.faults, read)
    }

    /// A list of mappings; `None` unless given.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Reader<'_>) -> T,
    ) -> Option<Vec<T>> {
        let sections = self.list(key)?;
        let read = |(index, section)| {
            let path = self.path_of(&format!("{key}[{index}]"));
            read_section(path, section, self.faults, &mut read)
        };
        Some(sections.into_iter().enumerate().map(read).collect())
    }

    /// A mapping of names to mappings; unless given, an empty one named `default`.
    ///
    /// Names follow the rule for replicas' names. One that doesn't is a fault, and its section is read all
    /// the same, for the faults in it.
    pub(super) fn sections_by_name<T>(
        &mut self,
        key: &'static str,
        default: &'static str,
        mut read: impl FnMut(&mut Reader<'_>) -> T,
    ) -> BTreeMap<String, T> {
        let sections = self.mapping(key);
        let sections =
            sections.unwrap_or_else(|| [(default.into(), Value::Null)].into_iter().collect());
        let read = |(name, section): (Value, Value)| {
            self.name(key, &name);
            let name = bare(&name);
            let path = self.path_of(&format!("{key}.{name}"));
            (name, read_section(path, section, self.faults, &mut read))
        };
        sections.into_iter().map(read).collect()
    }

    /// Unless `holds`, reports the first of `keys`, which are those that the rule speaks of.
    ///
    /// If one of them has a fault already, a default stands in for what the file says, and to judge that
    /// would lead astray.
    pub(super) fn rule(&mut self, holds: bool, keys: &[&str], text: impl FnOnce() -> String) {
        let is_faulty = |key: &&str| {
            let path = self.path_of(key);
            self.faults.iter().any(|fault| fault.is_within(&path))
        };
        if !holds && !keys.iter().any(is_faulty) {
            self.report(keys[0], text());
        }
    }

    fn milliseconds(&mut self, key: &'static str, default: Duration, least: u64) -> Duration {
        let default = default.as_millis() as u64;
        Duration::from_millis(self.number(key, default, least..=DURATION_MS_MAX))
    }

    /// `None` unless given; empty after a fault, so that no default is judged in its place.
    fn list(&mut self, key: &'static str) -> Option<Vec<Value>> {
        let value = self.take(key)?;
        let list = self.parse(key, &value, "a list", |value| value.as_sequence().cloned());
        Some(list.unwrap_or_default())
    }

    /// As [`Self::list`].
    fn mapping(&mut self, key: &'static str) -> Option<Mapping> {
        let value = self.take(key)?;
        let mapping = self.parse(key, &value, "a mapping", |value| value.as_mapping().cloned());
        Some(mapping.unwrap_or_default())
    }

    fn name(&mut self, key: &str, name: &Value) -> Option<ReplicaName> {
        self.parse_text(key, name, &NAME)
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        name: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> T {
        let Some(value) = self.take(key) else { return default };
        self.parse(key, &value, name, parse).unwrap_or(default)
    }

    fn parse_text<T>(&mut self, key: &str, value: &Value, form: &Form<T>) -> Option<T> {
        self.parse(key, value, form.name, |value| (form.parse)(value.as_str()?))
    }

    fn parse<T>(
        &mut self,
        key: &str,
        value: &Value,
        name: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        // The parser looks through tags, but whoever writes one expects it to do something.
        let parsed = if matches!(value, Value::Tagged(_)) { None } else { parse(value) };
        if parsed.is_none() {
            self.report(key, format!("{}: not {name}", shown(value)));
        }
        parsed
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.keys.push(key);
        self.entries.shift_remove(key).filter(|value| !value.is_null())
    }

    fn report_unknown_keys(mut self) {
        for unknown in std::mem::take(&mut self.entries).keys().map(bare) {
            let advice = match nearest(&unknown, &self.keys) {
                Some(key) => format!("did you mean '{key}'?"),
                None => format!("keys are: {}", self.keys.join(", ")),
            };
            self.report(&unknown, format!("unknown key; {advice}"));
        }
    }

    fn report(&mut self, key: &str, text: String) {
        self.faults.push(Fault::new(&self.path_of(key), text));
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A value as a fault shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(tagged) => quoted(&tagged.tag.to_string()),
    }
}

/// A key as a path shows it: without quotes where nobody can misread it.
fn bare(key: &Value) -> String {
    match key.as_str() {
        Some(text) if ReplicaName::parse(text).is_ok() => text.to_owned(),
        Some(_) | None => shown(key),
    }
}
