//! Rules for the source itself: sizes, names, who may import whom, who may name sled.
//!
//! Each rule is a function from a file's path and text to what is wrong in it. Each has a test
//! that runs it over the whole tree, and shows first that it catches a sample that breaks it.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARACTERS_MAX: usize = 100;

/// The ladder: a module imports only from rows above it and from its own row.
const LADDER: [&[&str]; 8] = [
    &["clock", "error", "priority"],
    &["job", "retry", "lease", "dead_letter", "config"],
    &["store"],
    &["queue"],
    &["engine", "metrics", "handle"],
    &["api", "worker"],
    &["server"],
    &["cli"],
];

// ---- the tree ----

/// A file of the project: its path from the root, with slashes, and its text.
struct Source {
    path: String,
    text: String,
}

/// Every text file of the project, but what is built or fetched.
fn sources() -> Vec<Source> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 50, "only {} files were found", found.len());
    found
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() && !["target", ".git", "pulk-data"].contains(&name.as_str()) {
            walk(root, &path, found);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root).unwrap();
            let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
            found.push(Source { path: parts.join("/"), text });
        }
    }
}

/// Runs a rule over the files it is for.
#[track_caller]
fn holds(is_for: impl Fn(&str) -> bool, rule: impl Fn(&str, &str) -> Vec<String>) {
    let files: Vec<Source> = sources().into_iter().filter(|file| is_for(&file.path)).collect();
    assert!(!files.is_empty(), "the rule is for no file");
    let wrong: Vec<String> = files.iter().flat_map(|file| rule(&file.path, &file.text)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_code_of_pulk(path: &str) -> bool {
    is_rust(path) && path.starts_with("src/")
}

// ---- Rust, as far as the rules need it ----

/// The text with comments, strings and characters blanked out; lines stay where they are.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before_is_word =
            out.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_');
        let blank = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' | 'b' | 'c' if !before_is_word => prefixed_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let taken = rest.get(..blank).unwrap_or_default();
        out.extend(taken.chars().map(|each| if each == '\n' { '\n' } else { ' ' }));
        rest = rest.get(blank..).unwrap_or_default();
        if blank == 0 {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let here = rest.as_bytes().get(at..at + 2).unwrap_or_default();
        match here {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string that begins with its quote.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `b'…'`; 0 when it is none of them.
fn prefixed_string(rest: &str) -> usize {
    let letters = rest.bytes().take_while(|byte| b"rbc".contains(byte)).count();
    let after = rest.get(letters..).unwrap_or_default();
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    let quoted = after.get(hashes..).unwrap_or_default();
    let is_raw = rest.get(..letters).is_some_and(|prefix| prefix.contains('r'));
    match quoted.bytes().next() {
        Some(b'"') if is_raw => {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = quoted.get(1..).unwrap_or_default();
            let length = body.find(&end).map_or(body.len(), |at| at + end.len());
            letters + hashes + 1 + length
        }
        Some(b'"') if hashes == 0 => letters + string(quoted),
        Some(b'\'') if hashes == 0 && letters == 1 => letters + character(quoted),
        _ => 0,
    }
}

/// The length of a character that begins with its quote; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut inside = rest.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), Some(escaped)) => {
            let start = 2 + escaped.len_utf8();
            let end = rest.get(start..).and_then(|rest| rest.find('\'')).unwrap_or(0);
            start + end + 1
        }
        (Some(one), Some('\'')) => 2 + one.len_utf8(),
        _ => 0,
    }
}

/// The code without its unit tests: they may know more than the module they are in.
fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// Every word of the code with the place where it begins.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = code.get(at..)?;
        let start = at + rest.find(is_word)?;
        let rest = code.get(start..)?;
        let end = start + rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        at = end;
        Some((start, code.get(start..end)?))
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// What is declared after this keyword (`fn`, `mod`): line, name, and where the name begins.
fn declared<'a>(code: &'a str, keyword: &str) -> Vec<(usize, &'a str, usize)> {
    let all: Vec<(usize, &str)> = words(code).collect();
    let pairs = all.windows(2).filter_map(|pair| match pair {
        [(before, word), (at, name)] if *word == keyword => {
            let between = code.get(before + word.len()..*at).unwrap_or_default();
            between.chars().all(char::is_whitespace).then(|| (line_of(code, *at), *name, *at))
        }
        _ => None,
    });
    pairs.collect()
}

#[test]
fn comments_strings_and_characters_are_no_code() {
    let text =
        "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# l 'm' '\\'' n<'o> b\"p\" q";
    let all = code(text);
    let kept: Vec<&str> = words(&all).map(|(_, word)| word).collect();
    assert_eq!(kept, ["a", "e", "i", "l", "n", "o", "q"]);
    assert_eq!(all.lines().count(), text.lines().count());
}

// ---- the rules ----

#[test]
fn files_are_short() {
    fn rule(path: &str, text: &str) -> Vec<String> {
        let (lines, most) = (text.lines().count(), FILE_LINES_MAX);
        let wrong = format!("{path}: {lines} lines, at most {most}; split it by what it is about");
        if lines > most { vec![wrong] } else { vec![] }
    }
    assert_eq!(rule("src/x.rs", &"\n".repeat(500)).len(), 0);
    assert_eq!(rule("src/x.rs", &"\n".repeat(501)).len(), 1);
    holds(is_rust, rule);
}

#[test]
fn functions_are_short() {
    fn rule(path: &str, text: &str) -> Vec<String> {
        let code = code(text);
        let mut wrong = Vec::new();
        for (line, name, at) in declared(&code, "fn") {
            let length = function_lines(&code, at).unwrap_or_default();
            if length > FUNCTION_LINES_MAX {
                let most = FUNCTION_LINES_MAX;
                wrong.push(format!("{path}:{line}: {name} has {length} lines, at most {most}"));
            }
        }
        wrong
    }
    /// The lines from its name to the end of its body; `None` when it has no body.
    fn function_lines(code: &str, at: usize) -> Option<usize> {
        let (mut round, mut curly) = (0, 0);
        for (offset, byte) in code.bytes().enumerate().skip(at) {
            match byte {
                b'(' | b'[' => round += 1,
                b')' | b']' => round -= 1,
                b';' if round == 0 && curly == 0 => return None,
                b'{' => curly += 1,
                b'}' if curly == 1 => {
                    return Some(line_of(code, offset) - line_of(code, at) + 1);
                }
                b'}' => curly -= 1,
                _ => {}
            }
        }
        None
    }
    let long = |lines: usize| format!("fn a(b: [u8; 2]) {{\n{}}}", "c(\"}\");\n".repeat(lines - 2));
    assert_eq!(rule("x.rs", &long(70)).len(), 0);
    assert_eq!(rule("x.rs", &long(71)).len(), 1);
    assert_eq!(
        rule("x.rs", &format!("trait A {{ fn b(c: fn()); }}\n{}", "\n".repeat(99))).len(),
        0
    );
    holds(is_rust, rule);
}

#[test]
fn lines_fit_on_a_screen() {
    fn rule(path: &str, text: &str) -> Vec<String> {
        let long = |line: &&str| line.chars().count() > LINE_CHARACTERS_MAX;
        let lines = text.lines().enumerate().filter(|(_, line)| long(line));
        lines.map(|(number, _)| format!("{path}:{}: a long line", number + 1)).collect()
    }
    assert_eq!(rule("x.rs", &"é".repeat(100)).len(), 0);
    assert_eq!(rule("x.rs", &"é".repeat(101)).len(), 1);
    holds(is_rust, rule);
}

#[test]
fn names_say_what_a_thing_is() {
    const SAY_NOTHING: [&str; 4] = ["util", "common", "helper", "misc"];
    fn rule(path: &str, text: &str) -> Vec<String> {
        let nothing = |name: &str| {
            let name = name.to_lowercase();
            SAY_NOTHING.iter().any(|word| name.contains(word))
        };
        let code = code(text);
        let named = declared(&code, "fn").into_iter().chain(declared(&code, "mod"));
        let mut wrong: Vec<String> = named
            .filter(|(_, name, _)| nothing(name))
            .map(|(line, name, _)| format!("{path}:{line}: the name {name} says nothing"))
            .collect();
        if nothing(path) {
            wrong.push(format!("{path}: the file's name says nothing"));
        }
        wrong
    }
    assert_eq!(rule("src/string_utils.rs", "").len(), 1);
    assert_eq!(rule("src/x.rs", "fn to_helper() {}\nmod common;\nlet misc = 1;").len(), 2);
    holds(is_rust, rule);
}

#[test]
fn no_module_is_in_a_mod_rs() {
    fn rule(path: &str, _: &str) -> Vec<String> {
        let wrong = path.ends_with("/mod.rs");
        wrong.then(|| format!("{path}: call it by its module's name")).into_iter().collect()
    }
    assert_eq!(rule("src/queue/mod.rs", "").len(), 1);
    holds(is_code_of_pulk, rule);
}

#[test]
fn only_its_own_store_names_sled() {
    fn rule(path: &str, text: &str) -> Vec<String> {
        if path == "src/store/sled.rs" || path.starts_with("src/store/sled/") {
            return Vec::new();
        }
        let code = code(text);
        let named = words(&code).filter(|(at, word)| {
            let before = code.get(..*at).unwrap_or_default();
            let after = code.get(at + word.len()..).unwrap_or_default();
            let from_root = before.ends_with("::")
                && !before.ends_with(|c| c != ':')
                && !before.trim_end_matches(':').ends_with(|c: char| c.is_alphanumeric());
            let is_path = after.starts_with("::") && !after.starts_with("::SledStore");
            let is_import = before.trim_end().ends_with("use") || before.ends_with("crate ");
            // `store::sled` and `self::sled` are our own module of that name.
            let is_ours = before.ends_with("store::") || before.ends_with("self::");
            *word == "sled" && !is_ours && (from_root || is_path || is_import)
        });
        named.map(|(at, _)| format!("{path}:{}: names sled", line_of(&code, at))).collect()
    }
    assert_eq!(rule("src/queue.rs", "use sled::Db;\nlet a = ::sled::open();").len(), 2);
    assert_eq!(rule("src/queue.rs", "fn a() -> sled::Result<()> {}").len(), 1);
    assert_eq!(rule("src/store.rs", "pub mod sled;\nsled::SledStore::open(x)").len(), 0);
    assert_eq!(rule("src/store/sled.rs", "use sled::Db;").len(), 0);
    holds(is_code_of_pulk, rule);
}

#[test]
fn one_file_turns_errors_into_statuses() {
    fn rule(path: &str, text: &str) -> Vec<String> {
        let code = code(text);
        let code = without_tests(&code);
        let names = |name: &str| words(code).any(|(_, word)| word == name);
        let wrong = path != "src/api/error.rs" && names("ErrorKind") && names("StatusCode");
        wrong
            .then(|| format!("{path}: names ErrorKind and StatusCode; src/api/error.rs maps them"))
            .into_iter()
            .collect()
    }
    let both = "match kind { ErrorKind::Full => StatusCode::TOO_MANY_REQUESTS }";
    assert_eq!(rule("src/api/jobs.rs", both).len(), 1);
    assert_eq!(rule("src/api/error.rs", both).len(), 0);
    holds(is_code_of_pulk, rule);
}

#[test]
fn imports_go_up_the_ladder() {
    let library = fs::read_to_string(format!("{}/src/lib.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let names = reexported(&code(&library));
    let rule = |path: &str, text: &str| climbs(path, text, &names);
    assert_eq!(rule("src/store.rs", "use crate::queue::Claim;").len(), 1);
    assert_eq!(rule("src/store/key.rs", "fn a(b: crate::Queue) {}").len(), 1);
    assert_eq!(rule("src/job.rs", "use crate::{error::Error, engine::Engine, clock};").len(), 1);
    assert_eq!(rule("src/queue/claim.rs", "use crate::store::Tree;\nuse crate::Error;").len(), 0);
    assert_eq!(rule("src/store/format.rs", "use crate::queue::StateCounts;").len(), 1);
    assert_eq!(rule("src/novel.rs", "").len(), 1, "a module that the ladder does not know");
    let in_ladder =
        |path: &str| is_code_of_pulk(path) && !["src/lib.rs", "src/main.rs"].contains(&path);
    holds(in_ladder, rule);
}

/// The names that `lib.rs` gives to what lies in modules: `pub use clock::Timestamp`.
fn reexported(library: &str) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for statement in library.split("pub use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        let mut all = words(statement).map(|(_, word)| word.to_owned());
        let Some(module) = all.next() else { continue };
        names.extend(all.map(|name| (name, module.clone())));
    }
    names
}

fn row(module: &str) -> Option<usize> {
    LADDER.iter().position(|row| row.contains(&module))
}

fn climbs(path: &str, text: &str, names: &[(String, String)]) -> Vec<String> {
    let module = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
    let Some(own) = row(module) else {
        return vec![format!("{path}: say in the ladder (tests/tidy.rs) where it stands")];
    };
    let code = code(text);
    let mut wrong = Vec::new();
    for (at, imported) in imports(&code) {
        let renamed = names.iter().find(|(name, _)| *name == imported);
        let target = renamed.map_or(imported.as_str(), |(_, module)| module);
        if row(target).is_none_or(|row| row > own) {
            let line = line_of(&code, at);
            wrong.push(format!("{path}:{line}: {module} may not import {target}"));
        }
    }
    wrong
}

/// What is named right after `crate::`, a group in braces name by name.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = code.get(at + "crate::".len()..).unwrap_or_default();
        let Some(group) = rest.strip_prefix('{') else {
            found.extend(words(rest).next().map(|(_, word)| (at, word.to_owned())));
            continue;
        };
        let mut depth = 0;
        let mut expects_name = true;
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expects_name = true,
                c if depth == 0 && expects_name && !c.is_whitespace() => {
                    let name = words(group.get(offset..).unwrap_or_default()).next();
                    found.extend(name.map(|(_, word)| (at, word.to_owned())));
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn nothing_is_left_to_be_written() {
    fn rule(path: &str, text: &str) -> Vec<String> {
        let code = code(text);
        let left = words(&code).filter(|(at, word)| {
            let after = code.get(at + word.len()..).unwrap_or_default();
            ["todo", "unimplemented"].contains(word) && after.starts_with('!')
        });
        left.map(|(at, word)| format!("{path}:{}: {word}", line_of(&code, at))).collect()
    }
    assert_eq!(rule("x.rs", "fn a() { todo!() }\nfn b() { unimplemented!(\"c\") }").len(), 2);
    assert_eq!(rule("x.rs", "// todo!()\nlet todo = 1;").len(), 0);
    holds(is_rust, rule);
}

#[test]
fn the_project_stands_alone() {
    // Put together here, so that this file does not break its own rule.
    let elsewhere = ["..", "shared"].join("/");
    let rule = |path: &str, text: &str| {
        let lines = text.lines().enumerate().filter(|(_, line)| line.contains(&elsewhere));
        lines.map(|(number, _)| format!("{path}:{}: {elsewhere}", number + 1)).collect::<Vec<_>>()
    };
    assert_eq!(rule("README.md", &format!("see\n{elsewhere}/DESIGN.md")).len(), 1);
    holds(|_| true, rule);
}
