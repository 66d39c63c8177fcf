//! The TOML file of `pulk serve`: every setting under the name of its flag, with `_` for `-`.
//!
//! What a file says is checked by the very arguments that check the flags, each key for itself,
//! so that what is wrong in it is found even where a flag or a variable stands above it. What no
//! flag can say, the `[[push]]` tables, is read by `push_table.rs`.

use std::any::TypeId;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::push_table::{self, PushTable};
use super::serve::PriorityFilter;
use super::{environment, sentence};
use crate::error::{Error, ErrorKind, Result};
use crate::worker::push::Statuses;

/// A file that is longer is not a file of settings.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Arguments of `pulk serve` that are no settings.
const NO_SETTINGS: [&str; 4] = ["config", "print_config", "help", "version"];
/// From this likeness on (0 to 1), an unknown key is taken for a mistyped one.
pub(super) const LIKENESS_MIN: f64 = 0.7;

/// The settings that a file gives, as their flags take them.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
    pub(super) push_tables: Vec<PushTable>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    value: String,
    line: usize,
    column: usize,
}

/// What a setting is in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Number,
    Switch,
    List,
    Statuses,
    Text,
}

impl Kind {
    pub(super) fn of(argument: &Arg) -> Kind {
        let read = argument.get_value_parser().type_id();
        if [TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>()]
            .iter()
            .any(|t| read == *t)
        {
            Kind::Integer
        } else if read == TypeId::of::<f64>() {
            Kind::Number
        } else if read == TypeId::of::<bool>() {
            Kind::Switch
        } else if read == TypeId::of::<PriorityFilter>() {
            Kind::List
        } else if read == TypeId::of::<Statuses>() {
            Kind::Statuses
        } else {
            Kind::Text
        }
    }

    /// What a file has to give, in words.
    fn wanted(self) -> &'static str {
        match self {
            Kind::Integer => "a whole number",
            Kind::Number => "a number",
            Kind::Switch => "true or false",
            Kind::List => "a list of texts, or one text with commas",
            Kind::Statuses => "a list of statuses like [429, \"5xx\"], or one text with commas",
            Kind::Text => "a text in quotes",
        }
    }
}

/// The arguments of `pulk serve` that are settings.
pub(super) fn settings(serve: &Command) -> impl Iterator<Item = &Arg> {
    serve.get_arguments().filter(|argument| !NO_SETTINGS.contains(&argument.get_id().as_str()))
}

impl ConfigFile {
    /// Reads a file whose path `source` gave, and checks all of it against the arguments of
    /// `pulk serve`.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming the file, the place, the key and why.
    pub(super) fn read(path: &Path, source: &str, serve: &Command) -> Result<ConfigFile> {
        let unreadable = |reason: &dyn std::fmt::Display| {
            wrong(format!("{source}: {} can't be read: {reason}", path.display()))
        };
        let file = File::open(path).map_err(|reason| unreadable(&reason))?;
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        match read.map_err(|reason| unreadable(&reason))? as u64 {
            0..=FILE_BYTES_MAX => ConfigFile::parse(path, &text, serve),
            _ => Err(unreadable(&format!("it is over {FILE_BYTES_MAX} bytes"))),
        }
    }

    fn parse(path: &Path, text: &str, serve: &Command) -> Result<ConfigFile> {
        let file = path.display();
        let table = DeTable::parse(text).map_err(|reason| {
            let (line, column) = place(text, reason.span().map_or(0, |span| span.start));
            let message = reason.message().trim().replace('\n', ", ");
            wrong(format!("{file} (line {line}, column {column}): {message}"))
        })?;
        let mut keys: Vec<_> = table.get_ref().iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let (mut entries, mut push_tables) = (Vec::new(), Vec::new());
        for (key, value) in keys {
            if key.get_ref() == push_table::KEY {
                push_tables = push_table::read(key.span().start, value).map_err(|found| {
                    let (line, column) = place(text, found.at);
                    let (key, reason) = (found.key, found.reason);
                    wrong(format!("{file}: {key} (line {line}, column {column}): {reason}"))
                })?;
                continue;
            }
            let (line, column) = place(text, key.span().start);
            let key = key.get_ref().to_string();
            let value = in_words(&key, value, serve).and_then(|value| {
                checked(&key, &value, serve)?;
                Ok(value)
            });
            let value = value.map_err(|reason| {
                wrong(format!("{file}: {key} (line {line}, column {column}): {reason}"))
            })?;
            entries.push(Entry { key, value, line, column });
        }
        Ok(ConfigFile { path: path.to_owned(), entries, push_tables })
    }

    /// The command with the file's values where its defaults were.
    pub(super) fn applied(&self, serve: Command) -> Command {
        self.entries.iter().fold(serve, |serve, entry| {
            serve.mut_arg(&entry.key, |argument| argument.default_value(entry.value.clone()))
        })
    }

    /// How an error calls a key that the file sets; `None` when it does not set it.
    pub(super) fn blame(&self, key: &str) -> Option<String> {
        let Entry { line, column, .. } = self.entries.iter().find(|entry| entry.key == key)?;
        let file = self.path.display();
        Some(format!("{file}: {key} (line {line}, column {column})"))
    }
}

fn wrong(sentence: String) -> Error {
    Error::new(ErrorKind::Configuration, sentence)
}

/// Line and column of a byte, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let in_line = before.get(line_start..).unwrap_or_default();
    (before.matches('\n').count() + 1, in_line.chars().count() + 1)
}

/// The value as a flag takes it, or why there is no such setting or no such value.
fn in_words(key: &str, value: &Spanned<DeValue<'_>>, serve: &Command) -> Result<String, String> {
    let Some(argument) = settings(serve).find(|argument| argument.get_id() == key) else {
        return Err(unknown(key, serve));
    };
    let kind = Kind::of(argument);
    match (kind, value.get_ref()) {
        (Kind::Integer | Kind::Number, DeValue::Integer(number)) => {
            let digits = number.as_str();
            match i128::from_str_radix(digits, number.radix()) {
                Ok(number) if number < 0 => Err(format!("{number} is below 0")),
                Ok(number) => Ok(number.to_string()),
                Err(_) => Err(format!("{digits} is too large")),
            }
        }
        (Kind::Number, DeValue::Float(number)) => Ok(number.as_str().to_owned()),
        (Kind::Switch, DeValue::Boolean(is_on)) => Ok(is_on.to_string()),
        (Kind::Text | Kind::List | Kind::Statuses, DeValue::String(text)) => Ok(text.to_string()),
        (Kind::List | Kind::Statuses, DeValue::Array(items)) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                DeValue::Integer(number) if kind == Kind::Statuses => Some(number.to_string()),
                _ => None,
            });
            let texts: Option<Vec<String>> = texts.collect();
            texts.map(|texts| texts.join(",")).ok_or_else(|| format!("use {}", kind.wanted()))
        }
        (_, other) => Err(format!("is {}; use {}", in_english(other), kind.wanted())),
    }
}

fn in_english(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn unknown(key: &str, serve: &Command) -> String {
    if key == "config" {
        return "a file can't name another; give one to --config".to_owned();
    }
    // Whoever writes the variable's or the flag's name means the same setting.
    let written = key.replace('-', "_").to_lowercase();
    let likeness = |argument: &Arg| {
        let variable = argument.get_env().map(|name| name.to_string_lossy().to_lowercase());
        let by_variable = variable.map_or(0.0, |name| strsim::jaro_winkler(&written, &name));
        strsim::jaro_winkler(&written, argument.get_id().as_str()).max(by_variable)
    };
    let nearest = settings(serve)
        .map(|argument| (likeness(argument), argument.get_id()))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((likeness, nearest)) if likeness >= LIKENESS_MIN => {
            format!("there is no such setting; did you mean {nearest}?")
        }
        _ => "there is no such setting; pulk serve --help lists them".to_owned(),
    }
}

/// Lets the setting's argument judge the value, with nothing else given.
fn checked(key: &str, value: &str, serve: &Command) -> Result<(), String> {
    let alone = environment::ignored(serve.clone());
    let mut alone = alone.mut_arg(key, |argument| argument.default_value(value.to_owned()));
    alone.build();
    let Err(usage) = alone.clone().try_get_matches_from(["serve"]) else { return Ok(()) };
    let said = sentence(&usage.to_string());
    let argument = alone.get_arguments().find(|argument| argument.get_id() == key);
    let argument = argument.map(|argument| format!(" for '{argument}'")).unwrap_or_default();
    Err(said.replace(&argument, ""))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn serve() -> Command {
        let mut command = super::super::Arguments::command();
        environment::ignored(command.find_subcommand_mut("serve").unwrap().clone())
    }

    fn parse(text: &str) -> Result<ConfigFile> {
        ConfigFile::parse(Path::new("pulk.toml"), text, &serve())
    }

    #[track_caller]
    fn refused(text: &str, sentence: &str) {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(error.to_string(), sentence);
    }

    #[test]
    fn values_are_taken_as_flags_take_them() {
        let file = parse(
            "listen = 'localhost:1'\nshard = 0x1F\nretry_jitter = 1\nscheduler_enabled = false\n\
             priorities = ['HIGH', 'bulk']\nmax_bytes = 1_000_000\n",
        );
        let values: Vec<_> = file.unwrap().entries.into_iter().map(|entry| entry.value).collect();
        assert_eq!(values, ["localhost:1", "31", "1", "false", "HIGH,bulk", "1000000"]);
        assert_eq!(parse("priorities = 'high, low'").unwrap().entries.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        refused(
            "shard = 1\n\n  retry_bse_ms = 5\n",
            "pulk.toml: retry_bse_ms (line 3, column 3): there is no such setting; did you mean \
             retry_base_ms?",
        );
        refused(
            "JOBS_RETRY_BASE_MS = 5",
            "pulk.toml: JOBS_RETRY_BASE_MS (line 1, column 1): there is no such setting; did you \
             mean retry_base_ms?",
        );
        refused(
            "[queue]\ncapacity = 5",
            "pulk.toml: queue (line 1, column 2): there is no such setting; did you mean \
             queue_capacity_low?",
        );
        refused(
            "zzz = 5",
            "pulk.toml: zzz (line 1, column 1): there is no such setting; pulk serve --help lists \
             them",
        );
        refused(
            "config = 'other.toml'",
            "pulk.toml: config (line 1, column 1): a file can't name another; give one to --config",
        );
    }

    #[test]
    fn a_value_of_another_type_or_range_is_refused() {
        refused(
            "shard = '1'",
            "pulk.toml: shard (line 1, column 1): is a text; use a whole number",
        );
        refused(
            "scheduler_enabled = 1",
            "pulk.toml: scheduler_enabled (line 1, column 1): is a whole number; use true or false",
        );
        refused(
            "shard = 65536",
            "pulk.toml: shard (line 1, column 1): invalid value '65536': 65536 is not in 0..=65535",
        );
        refused(
            "priorities = ['urgent']",
            "pulk.toml: priorities (line 1, column 1): invalid value 'urgent': priority: \
             \"urgent\" is not a priority; use critical, high, default, low or bulk",
        );
        refused(
            "log_format = 'xml'",
            "pulk.toml: log_format (line 1, column 1): invalid value 'xml' [possible values: \
             text, json]",
        );
        assert!(parse("push_retry_statuses = [404, '5xx']").is_ok());
        assert!(parse("push_retry_statuses = [1.5]").unwrap_err().to_string().contains("[429, "));
        assert!(parse("priorities = [1]").unwrap_err().to_string().contains("a list of texts"));
        let huge = format!("shard = 1{}", "0".repeat(60));
        assert!(parse(&huge).unwrap_err().to_string().contains("too large"));
        assert!(parse("retry_jitter = nan").unwrap_err().to_string().contains("retry_jitter"));
        assert!(parse("retry_max_ms = -1").unwrap_err().to_string().contains("-1 is below 0"));
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_place() {
        let error = parse("shard = 1\nlisten = \n").unwrap_err().to_string();
        assert!(error.starts_with("pulk.toml (line 2, column "), "{error}");
        let error = parse("shard = 1\nshard = 2\n").unwrap_err().to_string();
        assert!(error.starts_with("pulk.toml (line 2, column 1): duplicate key"), "{error}");
    }
}
