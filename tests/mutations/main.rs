//! A test of the tests: each patch beside this file breaks the product on purpose, and the command
//! that it names must fail because of it.
//!
//! A patch begins with a line `# what:` (what it breaks) and at least one `# caught-by:` (a
//! `cargo test` command, perhaps with variables before it). That they are complete and apply is
//! looked at by every `cargo test`; that they are caught, which builds the product for each, by
//!
//! ```sh
//! cargo test --test mutations -- --ignored
//! ```
//!
//! `PULK_MUTATION=text` runs those with this text in their name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What must have a mutation that it catches, as the words that name it in a command.
const KINDS: [&str; 13] = [
    "--test kill",
    "--test power_cut",
    "--test failing_disk",
    "--test bit_rot",
    "--test golden",
    "--test simulation",
    "--test sled_rules",
    "--test push",
    "--exact crash_recovery",
    "--exact queue_commands",
    "--exact http_request",
    "codec_holds_for_every_input",
    "key_order_holds_for_every_input",
];

struct Mutation {
    name: String,
    path: PathBuf,
    what: String,
    caught_by: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn mutations() -> Vec<Mutation> {
    let entries = fs::read_dir(root().join("tests/mutations")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<Mutation> = paths
        .filter(|path| path.extension() == Some(OsStr::new("patch")))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let told = |key: &str| -> Vec<String> {
                let lines = text.lines().filter_map(|line| line.strip_prefix(key));
                let lines: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
                assert!(!lines.is_empty(), "{name} has no line {key:?}");
                lines
            };
            Mutation {
                what: told("# what:").remove(0),
                caught_by: told("# caught-by:"),
                name,
                path,
            }
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr))
}

fn apply(tree: &Path, patch: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    // Not that of the project, in which the copy may lie.
    git.arg("apply").args(arguments).arg(patch).current_dir(tree).env("GIT_DIR", "/nonexistent");
    let applied = output(&mut git);
    assert!(applied.status.success(), "{}: {}", patch.display(), text(&applied));
}

#[test]
fn every_mutation_applies_to_the_source_alone() {
    for mutation in mutations() {
        apply(root(), &mutation.path, &["--check"]);
        let patch = fs::read_to_string(&mutation.path).unwrap();
        let changed = patch.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        for path in changed {
            assert!(path.starts_with("src/"), "{} changes {path}, no source", mutation.name);
        }
        let what = &mutation.what;
        assert!(!what.is_empty(), "{} does not say what it breaks", mutation.name);
        for command in &mutation.caught_by {
            assert!(is_cargo_test(command), "{}: {command}", mutation.name);
        }
    }
}

/// Variables, and then `cargo test` with something to choose by.
fn is_cargo_test(command: &str) -> bool {
    let is_variable = |word: &&str| word.contains('=');
    let words: Vec<&str> = command.split_whitespace().skip_while(is_variable).collect();
    words.len() > 2 && words[..2] == ["cargo", "test"]
}

#[test]
fn every_kind_of_test_has_a_mutation_that_it_must_catch() {
    let commands: Vec<String> = mutations().into_iter().flat_map(|each| each.caught_by).collect();
    for kind in KINDS {
        let has_one = commands.iter().any(|command| command.contains(kind));
        assert!(has_one, "no mutation is to be caught by {kind:?}");
    }
}

// ---- the run ----

/// A copy of the project with a target directory of its own.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make() -> Copy {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
        let (tree, target) = (directory.join("tree"), directory.join("target"));
        if tree.exists() {
            fs::remove_dir_all(&tree).unwrap();
        }
        fs::create_dir_all(&tree).unwrap();
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = output(list.current_dir(root()));
        assert!(listed.status.success(), "{}", text(&listed));
        for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
            let from = root().join(name);
            // Removed, but not committed yet.
            if !from.exists() {
                continue;
            }
            let to = tree.join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
        Copy { tree, target }
    }

    fn run(&self, command: &str) -> (bool, String) {
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(&self.tree);
        shell.env("CARGO_TARGET_DIR", &self.target).env("CARGO_INCREMENTAL", "1");
        // Nobody debugs these builds; each is as long again with it.
        shell.env("CARGO_PROFILE_DEV_DEBUG", "0");
        // Set by the cargo that runs this test; the copy is another package.
        for (name, _) in std::env::vars() {
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST") {
                shell.env_remove(name);
            }
        }
        let output = output(&mut shell);
        (output.status.success(), text(&output))
    }

    fn names_a_test(&self, command: &str) -> bool {
        let list = if command.contains(" -- ") { "--list" } else { "-- --list" };
        let (listed, said) = self.run(&format!("{command} {list}"));
        assert!(listed, "{command}:\n{said}");
        said.lines().any(|line| line.ends_with(": test"))
    }

    /// Whether the tests of a command fail. That it builds is a condition: what does not compile
    /// is not caught by a test.
    fn fails(&self, command: &str) -> Result<(), String> {
        let build = format!("{} --no-run", command.split(" -- ").next().unwrap());
        let (built, said) = self.run(&build);
        if !built {
            return Err(format!("it does not build:\n{said}"));
        }
        let (passed, said) = self.run(command);
        match !passed && said.contains("test result: FAILED") {
            true => Ok(()),
            false => Err(format!("nothing failed by it:\n{said}")),
        }
    }
}

#[test]
#[ignore = "it builds the product once for each mutation"]
fn every_mutation_is_caught() {
    let wanted = std::env::var("PULK_MUTATION").unwrap_or_default();
    let chosen: Vec<Mutation> =
        mutations().into_iter().filter(|mutation| mutation.name.contains(&wanted)).collect();
    assert!(!chosen.is_empty(), "no mutation has {wanted:?} in its name");
    let copy = Copy::make();
    let commands: BTreeSet<&String> =
        chosen.iter().flat_map(|mutation| &mutation.caught_by).collect();
    // That they pass without a mutation is what `cargo test` itself is for.
    for command in commands {
        assert!(copy.names_a_test(command), "{command} runs no test");
    }
    let mut missed = Vec::new();
    for Mutation { name, path, what, caught_by } in &chosen {
        apply(&copy.tree, path, &[]);
        for command in caught_by {
            let caught = copy.fails(command);
            let verdict = if caught.is_ok() { "caught" } else { "MISSED" };
            println!("{verdict}: {name} ({what}) by {command}");
            if let Err(why) = caught {
                missed.push(format!("{name} ({command}): {why}"));
            }
        }
        apply(&copy.tree, path, &["--reverse"]);
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n\n"));
}
