//! `isopod config`: check, show and explain the configuration.
//!
//! Owns: what is printed of a configuration. Always: secrets show as dots; `show` prints a file that
//! means the same, but for them. Callers: `main`; a test writes the guide's table from [`table`].

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::entries::{Entries, Flags};
use super::keys::{self, Key, Takes};
use super::kind::Kind;
use super::mistake::Origin;

/// Arguments of `isopod config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Read the configuration as the daemon does, and tell every mistake, and what of it is not on this machine
    Check(File),
    /// Print what counts, as one file
    Show(File),
    /// Print a file with every key, its default and what it does
    Default,
    /// Print every key with its value, where that comes from, and what it does
    Explain {
        #[command(flatten)]
        file: File,
        /// Only keys that begin with this
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct File {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Does what `args` say.
pub fn run(args: &Args) -> ExitCode {
    let (file, print): (&File, fn(&Entries, &str) -> String) = match &args.verb {
        Verb::Default => {
            // As below.
            let _ = std::io::stdout().write_all(defaults().as_bytes());
            return ExitCode::SUCCESS;
        }
        Verb::Check(file) => (file, checked),
        Verb::Show(file) => (file, shown),
        Verb::Explain { file, .. } => (file, explained),
    };
    let prefix = match &args.verb {
        Verb::Explain { key: Some(key), .. } => key.as_str(),
        Verb::Explain { key: None, .. } | Verb::Check(_) | Verb::Show(_) | Verb::Default => "",
    };
    if let Some(problem) = unknown(prefix) {
        eprintln!("{problem}");
        return ExitCode::FAILURE;
    }
    let looked = super::look(file.config.as_deref(), &Flags::default());
    let mut wrong: Vec<String> = looked.mistakes.iter().map(ToString::to_string).collect();
    if matches!(args.verb, Verb::Check(_)) {
        wrong.extend(looked.misfits());
    }
    if !wrong.is_empty() {
        eprintln!("{}", wrong.join("\n"));
        return ExitCode::FAILURE;
    }
    // A reader that has seen enough closes the pipe; that is no failure.
    let _ = std::io::stdout().write_all(print(&looked.entries, prefix).as_bytes());
    ExitCode::SUCCESS
}

/// What is wrong with a key that somebody wants explained: no key begins like it.
fn unknown(prefix: &str) -> Option<String> {
    let given: Vec<String> = prefix.split('.').map(str::to_owned).collect();
    let known = |key: &Key| {
        // Of a name that the user chose in place of the `*`, only the table counts.
        key.name.starts_with(prefix) || key.is(&given) || key.is_below(&given)
    };
    if keys::all().any(known) {
        return None;
    }
    let near = keys::near(&given).map(|name| format!(" (did you mean `{name}`?)"));
    Some(format!("no key begins with `{prefix}`{}", near.unwrap_or_default()))
}

/// A whole file; keys with a name that the user chooses are comments in it.
fn defaults() -> String {
    let mut text = String::from("# Every key of isopod with its default.\n");
    for key in keys::all() {
        let mark = if key.name.contains('*') { "# " } else { "" };
        let takes = match key.takes {
            Takes::Reload => "on reload",
            Takes::Restart => "at the next start",
        };
        let allowed = allowed(key.kind);
        text.push_str(&format!("\n# {}\n# Allowed: {allowed}; taken up {takes}.\n", key.about));
        text.push_str(&format!("{mark}{} = {}\n", key.name, key.default));
    }
    text
}

fn checked(entries: &Entries, _prefix: &str) -> String {
    if entries.files.is_empty() {
        return format!("{} is not there: every key has its default\n", super::DEFAULT_FILE);
    }
    let files: Vec<String> = entries.files.iter().map(|f| f.display().to_string()).collect();
    format!("no mistakes in {}\n", files.join(", "))
}

fn shown(entries: &Entries, _prefix: &str) -> String {
    let mut text = String::new();
    for (_, name, entry) in entries.all() {
        if let Some(entry) = entry {
            text.push_str(&format!("{name} = {}\n", entry.printable()));
        }
    }
    text
}

fn explained(entries: &Entries, prefix: &str) -> String {
    let mut text = String::new();
    for (key, name, entry) in entries.all() {
        if !name.starts_with(prefix) {
            continue;
        }
        let (value, origin) = match &entry {
            Some(entry) => (entry.printable(), entry.origin.clone()),
            None => (key.default, Origin::Default),
        };
        let takes = match key.takes {
            Takes::Reload => "on reload",
            Takes::Restart => "at the next start",
        };
        text.push_str(&format!("{name} = {value}\n    {}\n", key.about));
        text.push_str(&format!("    from: {origin}; allowed: {}", allowed(key.kind)));
        if origin != Origin::Default {
            text.push_str(&format!("; default: {}", key.default));
        }
        text.push_str(&format!("; taken up {takes}\n\n"));
    }
    text
}

fn allowed(kind: Kind) -> String {
    kind.expected()
}

/// The guide's table of all keys, in Markdown.
#[cfg_attr(not(test), expect(dead_code, reason = "the guide's table is written by a test"))]
pub fn table() -> String {
    let mut text = String::from(
        "| key | default | allowed | taken up | what it does |\n|---|---|---|---|---|\n",
    );
    for key in keys::all() {
        let takes = match key.takes {
            Takes::Reload => "reload",
            Takes::Restart => "restart",
        };
        let allowed = allowed(key.kind).replace('|', "\\|");
        text.push_str(&format!(
            "| `{}` | `{}` | {allowed} | {takes} | {} |\n",
            key.name, key.default, key.about
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BEGIN: &str =
        "<!-- keys: begin; written by `ISOPOD_WRITE_GUIDE=1 cargo test -p isopod guide` -->\n";
    const END: &str = "<!-- keys: end -->\n";

    fn entries(text: &str) -> Entries {
        let (mut entries, mut mistakes) = (Entries::default(), Vec::new());
        entries.take(Path::new("c.toml"), text, &mut mistakes);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        entries
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_configuration() {
        let first = entries(
            "[handlers.crun]\nkind = \"oci\"\nprogram = \"/c\"\n[images]\npinned = [\"a\", \"b\"]\n[images.credentials.\"r.example:5000\"]\nusername = \"u\"\n",
        );
        let again = entries(&shown(&first, ""));
        assert!(first.changed(&again).is_empty(), "{:?}", first.changed(&again));
    }

    #[test]
    fn the_file_of_defaults_says_nothing_new() {
        let all = entries(&defaults());
        assert!(all.changed(&Entries::default()).is_empty());
    }

    #[test]
    fn a_key_that_is_none_is_not_explained() {
        for known in ["", "socket", "socket.path", "handlers.crun.program", "handlers.crun", "lim"]
        {
            assert_eq!(unknown(known), None, "{known}");
        }
        let told = unknown("socket.pth").unwrap();
        assert!(told.contains("did you mean `socket.path`?"), "{told}");
    }

    #[test]
    fn an_explanation_tells_the_origin_and_no_secret() {
        let entries =
            entries("root = \"/r\"\n[images.credentials.\"r.example\"]\npassword = \"hunter2\"\n");
        let text = explained(&entries, "");
        assert!(text.contains("from: c.toml:1"), "{text}");
        assert!(text.contains("images.credentials.\"r.example\".password = \"…\""), "{text}");
        assert!(!text.contains("hunter2") && !shown(&entries, "").contains("hunter2"));
        assert!(!explained(&entries, "log.").contains("root ="));
    }

    #[test]
    fn the_guide_has_the_table_of_all_keys() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/configuration.md");
        let guide = std::fs::read_to_string(&path).unwrap();
        let (before, rest) =
            guide.split_once(BEGIN).expect("the guide has no beginning of the table");
        let (old, after) = rest.split_once(END).expect("the guide has no end of the table");
        let new = table();
        if std::env::var_os("ISOPOD_WRITE_GUIDE").is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{new}{END}{after}")).unwrap();
        } else {
            assert_eq!(old, new, "docs/guide/configuration.md is behind; write it as it says");
        }
    }
}
