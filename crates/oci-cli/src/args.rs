//! The command line: options before the verb, the verb, its options, its words. Pure.

use std::path::PathBuf;

use crate::error::OciError;

/// Where records are when nobody says otherwise.
const DEFAULT_ROOT: &str = "/run/isopod/oci";

/// What is to be done, and how it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// Where containers are recorded.
    pub(crate) root: PathBuf,
    /// Where failures are told, beside standard error.
    pub(crate) log: Option<PathBuf>,
    /// Whether that is told as JSON.
    pub(crate) log_is_json: bool,
    /// The verb.
    pub(crate) verb: String,
    /// Its options: a name without dashes, and a value, empty for a flag.
    options: Vec<(String, String)>,
    /// Its words: a container's id, then what comes after it.
    pub(crate) words: Vec<String>,
}

/// Options before the verb that have a value, and those that have none.
const GLOBAL_VALUES: [&str; 5] = ["root", "log", "log-format", "log-level", "rootless"];
const GLOBAL_FLAGS: [&str; 4] = ["systemd-cgroup", "debug", "help", "version"];

/// A verb's options: with a value, without one, and short names.
struct Syntax {
    verb: &'static str,
    values: &'static [&'static str],
    flags: &'static [&'static str],
    short: &'static [(&'static str, &'static str)],
}

const LAUNCHING: [&str; 5] = ["bundle", "console-socket", "pid-file", "preserve-fds", "log-driver"];
const SYNTAX: [Syntax; 15] = [
    Syntax {
        verb: "create",
        values: &LAUNCHING,
        flags: &["no-pivot", "no-new-keyring"],
        short: &[("b", "bundle")],
    },
    Syntax {
        verb: "run",
        values: &LAUNCHING,
        flags: &["no-pivot", "no-new-keyring", "detach", "keep", "no-subreaper"],
        short: &[("b", "bundle"), ("d", "detach")],
    },
    Syntax { verb: "start", values: &[], flags: &[], short: &[] },
    Syntax { verb: "state", values: &[], flags: &[], short: &[] },
    Syntax { verb: "kill", values: &[], flags: &["all"], short: &[("a", "all")] },
    Syntax { verb: "delete", values: &[], flags: &["force"], short: &[("f", "force")] },
    Syntax {
        verb: "exec",
        values: &[
            "process",
            "cwd",
            "env",
            "user",
            "console-socket",
            "pid-file",
            "additional-gids",
            "preserve-fds",
            "apparmor",
            "process-label",
            "cap",
            "cgroup",
        ],
        flags: &["tty", "detach", "no-new-privs", "ignore-paused"],
        short: &[
            ("p", "process"),
            ("e", "env"),
            ("u", "user"),
            ("t", "tty"),
            ("d", "detach"),
            ("g", "additional-gids"),
            ("c", "cap"),
        ],
    },
    Syntax { verb: "ps", values: &["format"], flags: &[], short: &[("f", "format")] },
    Syntax {
        verb: "list",
        values: &["format"],
        flags: &["quiet"],
        short: &[("f", "format"), ("q", "quiet")],
    },
    Syntax {
        verb: "update",
        values: &[
            "resources",
            "memory",
            "memory-swap",
            "memory-reservation",
            "cpu-share",
            "cpu-shares",
            "cpu-quota",
            "cpu-period",
            "cpuset-cpus",
            "cpuset-mems",
            "pids-limit",
            "blkio-weight",
        ],
        flags: &[],
        short: &[("r", "resources")],
    },
    Syntax { verb: "pause", values: &[], flags: &[], short: &[] },
    Syntax { verb: "resume", values: &[], flags: &[], short: &[] },
    Syntax { verb: "features", values: &[], flags: &[], short: &[] },
    Syntax { verb: "spec", values: &["bundle"], flags: &[], short: &[("b", "bundle")] },
    Syntax { verb: "version", values: &[], flags: &[], short: &[] },
];

/// What `help` prints.
pub(crate) const USAGE: &str = "\
usage: isopod oci [--root DIR] [--log FILE] [--log-format text|json] [--systemd-cgroup] VERB

  create [--bundle DIR] [--pid-file FILE] [--console-socket SOCKET] ID
  start ID
  state ID
  kill [--all] ID [SIGNAL]
  delete [--force] ID
  run [--detach] [as create] ID
  exec [--process FILE] [--detach] [--pid-file FILE] [--console-socket SOCKET] [--tty]
       [--cwd DIR] [--env NAME=VALUE] [--user UID[:GID]] [--additional-gids GID] [--cap NAME]
       ID [COMMAND…]
  ps [--format table|json] ID
  list [--quiet] [--format table|json]
  update [--resources FILE|-] [--memory BYTES] [--cpu-quota USEC] [--pids-limit N] … ID
  pause ID, resume ID
  features
  spec [--bundle DIR]
";

impl Invocation {
    /// The last value of an option.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).last()
    }

    /// All values of an option that may be there more than once.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(n, value)| n == name && value != "false")
    }

    /// Refuses what other runtimes do at these options and this one does not. Those that change nothing that a
    /// container could see are taken.
    pub(crate) fn refuse_unsupported(&self) -> Result<(), OciError> {
        let refused = [
            ("preserve-fds", self.value("preserve-fds").is_some_and(|number| number != "0")),
            ("cgroup", self.value("cgroup").is_some()),
            ("ignore-paused", self.has("ignore-paused")),
        ];
        match refused.iter().find(|(_, is_there)| *is_there) {
            Some((name, _)) => {
                Err(OciError::Usage(format!("{}: --{name} is not supported", self.verb)))
            }
            None => Ok(()),
        }
    }

    /// The container's id.
    pub(crate) fn id(&self) -> Result<&str, OciError> {
        let id = self.words.first().ok_or_else(|| {
            OciError::Usage(format!("{}: the container's id is missing", self.verb))
        })?;
        let is_good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.len() > 1024 || !id.chars().all(is_good) || id == "." || id == ".." {
            return Err(OciError::Usage(format!("{id:?} is not an id of a container")));
        }
        Ok(id)
    }
}

/// Reads a command line.
pub(crate) fn read(args: &[String]) -> Result<Invocation, OciError> {
    let mut scanner = Scanner { args, at: 0 };
    let globals = scanner.options(&GLOBAL_VALUES, &GLOBAL_FLAGS, &[])?;
    let last = |name: &str| globals.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let given = scanner.next();
    let verb = match given {
        _ if last("version").is_some() => "version".to_owned(),
        None => "help".to_owned(),
        _ if last("help").is_some() => "help".to_owned(),
        Some(verb) => verb.clone(),
    };
    let mut options = Vec::new();
    let mut words = Vec::new();
    if let Some(syntax) = SYNTAX.iter().find(|syntax| syntax.verb == verb) {
        options = scanner.options(syntax.values, syntax.flags, syntax.short)?;
        words.extend(scanner.next().cloned());
        // What comes after a command's name is the command's; elsewhere options may come late.
        if syntax.verb != "exec" && !words.is_empty() {
            options.extend(scanner.options(syntax.values, syntax.flags, syntax.short)?);
        }
        words.extend(scanner.rest().iter().cloned());
        if syntax.verb == "exec" && words.get(1).is_some_and(|word| word == "--") {
            words.remove(1);
        }
    } else if verb != "help" {
        return Err(OciError::Usage(format!("no verb {verb:?}\n\n{USAGE}")));
    }
    Ok(Invocation {
        root: last("root").filter(|root| !root.is_empty()).unwrap_or(DEFAULT_ROOT.into()).into(),
        log: last("log").filter(|log| !log.is_empty()).map(PathBuf::from),
        log_is_json: last("log-format").is_some_and(|format| format == "json"),
        verb,
        options,
        words,
    })
}

struct Scanner<'a> {
    args: &'a [String],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<&'a String> {
        let next = self.args.get(self.at);
        self.at += usize::from(next.is_some());
        next
    }

    fn rest(&mut self) -> &'a [String] {
        let rest = self.args.get(self.at..).unwrap_or_default();
        self.at = self.args.len();
        rest
    }

    /// Options up to the first word.
    fn options(
        &mut self,
        values: &[&str],
        flags: &[&str],
        short: &[(&str, &str)],
    ) -> Result<Vec<(String, String)>, OciError> {
        let mut found = Vec::new();
        while let Some(arg) = self.args.get(self.at).filter(|arg| arg.len() > 1) {
            let Some(text) = arg.strip_prefix('-') else { break };
            let text = text.strip_prefix('-').unwrap_or(text);
            self.at += 1;
            if text.is_empty() {
                break;
            }
            let (name, given) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let name = short.iter().find(|(s, _)| *s == name).map_or(name, |(_, long)| *long);
            let value = if values.contains(&name) {
                let missing = || OciError::Usage(format!("{arg} needs a value"));
                given.map(str::to_owned).or_else(|| self.next().cloned()).ok_or_else(missing)?
            } else if flags.contains(&name) {
                given.unwrap_or_default().to_owned()
            } else {
                return Err(OciError::Usage(format!("no option {arg:?} here\n\n{USAGE}")));
            };
            found.push((name.to_owned(), value));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_of_containerds_is_read() {
        let line = "--root /run/r --log /x/log.json --log-format json --systemd-cgroup create \
                    --bundle /b --pid-file /b/pid --console-socket=/s id1";
        let read = read(&words(line)).unwrap();
        assert_eq!((read.root.to_str(), read.log_is_json), (Some("/run/r"), true));
        assert_eq!((read.verb.as_str(), read.id().unwrap()), ("create", "id1"));
        assert_eq!(read.value("console-socket"), Some("/s"));
        assert_eq!(read.value("pid-file"), Some("/b/pid"));
    }

    #[test]
    fn what_comes_after_the_id_of_an_exec_is_the_commands() {
        let line = read(&words("exec -d --env A=b -e C=d -u 1:2 id ls --all -l")).unwrap();
        assert_eq!(line.words, ["id", "ls", "--all", "-l"]);
        assert_eq!(line.values("env").collect::<Vec<_>>(), ["A=b", "C=d"]);
        assert!(line.has("detach") && !line.has("tty"));
        let line = read(&words("kill id KILL --all")).unwrap();
        assert_eq!(line.words, ["id", "KILL", "--all"]);
        let line = read(&words("delete id --force")).unwrap();
        assert!(line.has("force"));
    }

    #[test]
    fn what_would_be_ignored_is_refused_by_name() {
        for (line, name) in [
            ("create --preserve-fds 2 id", "--preserve-fds"),
            ("exec --preserve-fds=1 id sh", "--preserve-fds"),
            ("exec --cgroup /sub id sh", "--cgroup"),
            ("exec --ignore-paused id sh", "--ignore-paused"),
        ] {
            let refused = read(&words(line)).unwrap().refuse_unsupported();
            let Err(OciError::Usage(said)) = refused else { panic!("{line} is taken") };
            assert!(said.contains(name), "{said}");
        }
        for line in ["create --preserve-fds 0 id", "exec --cap CAP_KILL -g 5 id sh"] {
            read(&words(line)).unwrap().refuse_unsupported().unwrap();
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for bad in ["fly id", "create --fly id", "create --bundle", "--fly state id"] {
            assert!(matches!(read(&words(bad)), Err(OciError::Usage(_))), "{bad}");
        }
        for id in ["", "..", ".", "a/b", "a b", "a\n"] {
            let line = read(&["state".to_owned(), id.to_owned()]).unwrap();
            assert!(line.id().is_err(), "{id:?}");
        }
    }
}
