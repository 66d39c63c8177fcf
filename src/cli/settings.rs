//! What a node runs with: each setting, its value, and whence that is.
//!
//! A flag stands above the environment, that above the file, that above the default.

use std::ffi::{OsStr, OsString};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::config_file::{self, ConfigFile, Kind};
use super::push_table::PushTable;
use super::serve::PriorityFilter;
use super::{mask, sentence};
use crate::error::{Error, ErrorKind, Result};
use crate::priority::Priority;
use crate::server::WorkerOptions;
use crate::worker::push::Statuses;

/// The settings of one start.
pub(super) struct Settings {
    all: Vec<Setting>,
    push_tables: Vec<PushTable>,
}

struct Setting {
    key: String,
    kind: Kind,
    is_secret: bool,
    /// As its flag takes it; `None` when it has none and its default is another setting's value.
    value: Option<String>,
    source: Source,
    /// What an error calls it.
    blame: String,
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    File,
    /// A variable of this name.
    Environment(String),
    Flag,
}

impl Source {
    /// How far up it stands.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Source::Default => 0,
            Source::File => 1,
            Source::Environment(_) => 2,
            Source::Flag => 3,
        }
    }
}

impl Settings {
    /// The arguments of `pulk serve` with what the environment and the file add to them.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) when the file can't be used.
    pub(super) fn read(
        command: &Command,
        given: &[OsString],
        matches: &ArgMatches,
    ) -> Result<(ArgMatches, Settings)> {
        let Some((_, matches)) = matches.subcommand() else { return Err(no_serve()) };
        let serve = command.find_subcommand("serve").ok_or_else(no_serve)?;
        let Some(path) = matches.get_one::<std::path::PathBuf>("config") else {
            return Ok((matches.clone(), Settings::of(serve, matches, None)));
        };
        let source = match matches.value_source("config") {
            Some(ValueSource::EnvVariable) => "PULK_CONFIG",
            _ => "--config",
        };
        let file = ConfigFile::read(path, source, serve)?;
        let with_file = command.clone().mut_subcommand("serve", |serve| file.applied(serve));
        let matches = with_file
            .try_get_matches_from(given)
            .map_err(|usage| Error::new(ErrorKind::Configuration, sentence(&usage.to_string())))?;
        let Some((_, matches)) = matches.subcommand() else { return Err(no_serve()) };
        Ok((matches.clone(), Settings::of(serve, matches, Some(&file))))
    }

    fn of(serve: &Command, matches: &ArgMatches, file: Option<&ConfigFile>) -> Settings {
        let settings = config_file::settings(serve);
        let all = settings.map(|argument| Setting::of(argument, matches, file)).collect();
        let push_tables = file.map(|file| file.push_tables.clone()).unwrap_or_default();
        Settings { all, push_tables }
    }

    /// What an error calls a setting: the flag, the variable, or the file and the key.
    pub(super) fn blame(&self, key: &str) -> &str {
        self.find(key).map_or("", |setting| &setting.blame)
    }

    /// Where the value of a setting is from.
    pub(super) fn source(&self, key: &str) -> &Source {
        self.find(key).map_or(&Source::Default, |setting| &setting.source)
    }

    /// The push targets that the file names.
    pub(super) fn push_tables(&self) -> &[PushTable] {
        &self.push_tables
    }

    fn find(&self, key: &str) -> Option<&Setting> {
        self.all.iter().find(|setting| setting.key == key)
    }

    /// All settings as a TOML file that gives the same node.
    pub(super) fn to_toml(&self) -> String {
        let lines = self.all.iter().map(|setting| {
            let (value, as_other) = self.effective(setting);
            let is_shown = !setting.is_secret || value.is_empty();
            let value = if is_shown { &*value } else { mask::SECRET };
            let value = in_toml(setting.kind, &mask::url(value));
            let source = match &setting.source {
                Source::Default => {
                    as_other.map_or("default".to_owned(), |other| format!("default, {other}"))
                }
                Source::File => "file".to_owned(),
                Source::Environment(name) => name.clone(),
                Source::Flag => "flag".to_owned(),
            };
            format!("{} = {value} # {source}\n", setting.key)
        });
        let tables = self.push_tables.iter().map(PushTable::to_toml);
        lines.chain(tables).collect()
    }

    /// A setting's value, and whence that is where it has none of its own.
    fn effective(&self, setting: &Setting) -> (String, Option<String>) {
        if let Some(value) = &setting.value {
            return (value.clone(), None);
        }
        match setting.key.as_str() {
            "concurrency" => {
                let concurrency = WorkerOptions::default().concurrency();
                return (concurrency.to_string(), Some("twice the processors".to_owned()));
            }
            "reserved" => return (self.reserved(), Some("a quarter of concurrency".to_owned())),
            _ => {}
        }
        // max_attempts_high is as max_attempts_default; all priorities are handed out.
        let stem = setting.key.rsplit_once('_').map(|(stem, _)| format!("{stem}_default"));
        match stem.and_then(|key| self.find(&key)) {
            Some(other) => (self.effective(other).0, Some(format!("as {}", other.key))),
            None => (PriorityFilter(Priority::ALL.to_vec()).to_string(), None),
        }
    }

    /// The reserved slots where nobody says how many.
    fn reserved(&self) -> String {
        let value = |key: &str| self.find(key).map(|setting| self.effective(setting).0);
        let concurrency = value("concurrency").and_then(|text| text.parse().ok());
        let is_filtered = *self.source("priorities") != Source::Default;
        let worker = WorkerOptions { concurrency, ..WorkerOptions::default() };
        worker.reserved(is_filtered).to_string()
    }
}

impl Setting {
    fn of(argument: &Arg, matches: &ArgMatches, file: Option<&ConfigFile>) -> Setting {
        let key = argument.get_id().to_string();
        let flag = format!("--{}", argument.get_long().unwrap_or_default());
        let kind = Kind::of(argument);
        let in_file = file.and_then(|file| file.blame(&key));
        let variable = argument.get_env().map(OsStr::to_string_lossy).unwrap_or_default();
        let (source, blame) = match (matches.value_source(&key), in_file) {
            (Some(ValueSource::CommandLine), _) => (Source::Flag, flag),
            (Some(ValueSource::EnvVariable), _) => {
                (Source::Environment(variable.to_string()), variable.into_owned())
            }
            (_, Some(blame)) => (Source::File, blame),
            (_, None) => (Source::Default, format!("{flag} (the default)")),
        };
        let value = match kind {
            Kind::Switch => matches.get_one::<bool>(&key).map(ToString::to_string),
            Kind::List => matches.get_one::<PriorityFilter>(&key).map(ToString::to_string),
            Kind::Statuses => matches.get_one::<Statuses>(&key).map(ToString::to_string),
            _ => matches
                .get_raw(&key)
                .and_then(Iterator::last)
                .map(|text| text.to_string_lossy().into_owned()),
        };
        let is_secret = argument.is_hide_env_values_set();
        Setting { key, kind, is_secret, value, source, blame }
    }
}

fn no_serve() -> Error {
    Error::new(ErrorKind::Configuration, "these are no arguments of pulk serve")
}

/// A value of this kind as TOML writes it.
fn in_toml(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Switch => value.to_owned(),
        // Flags take more than TOML does: 007, +5, .5
        Kind::Integer => value.parse().map_or_else(|_| quoted(value), |n: u64| n.to_string()),
        Kind::Number => value.parse().map_or_else(|_| quoted(value), |n: f64| format!("{n:?}")),
        Kind::List | Kind::Statuses => {
            let items = value.split(',').filter(|item| !item.is_empty());
            let items: Vec<String> = items.map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Text => quoted(value),
    }
}

pub(super) fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's too; DEL is the one character that only TOML wants escaped.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &str, is_secret: bool, value: &str) -> Setting {
        let (key, kind, source) = (key.to_owned(), Kind::Text, Source::Flag);
        let value = Some(value.to_owned());
        Setting { key, kind, is_secret, value, source, blame: String::new() }
    }

    #[test]
    fn secrets_are_not_shown() {
        let all = vec![
            setting("token", true, "s3cr3t"),
            setting("push_url", false, "http://me:s3cr3t@host/path"),
        ];
        let settings = Settings { all, push_tables: Vec::new() };
        assert_eq!(
            settings.to_toml(),
            "token = \"***\" # flag\npush_url = \"http://***@host/path\" # flag\n"
        );
    }

    #[test]
    fn what_flags_take_is_written_as_toml_wants_it() {
        for (kind, value, written) in [
            (Kind::Integer, "007", "7"),
            (Kind::Number, ".5", "0.5"),
            (Kind::Number, "1e-9", "1e-9"),
            (Kind::List, "high,low", "[\"high\", \"low\"]"),
            (Kind::Text, "a\"\\\n\u{7f}", "\"a\\\"\\\\\\n\\u007f\""),
        ] {
            assert_eq!(in_toml(kind, value), written);
            let line = format!("key = {written}\n");
            assert!(toml::de::DeTable::parse(&line).is_ok(), "{line}");
        }
    }
}
