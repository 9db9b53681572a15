//! A person at a terminal: `isopod exec -it` in a tmux of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{Daemon, until};

use crate::around::{text, with_pod};

const SOON: Duration = Duration::from_secs(30);

/// A terminal that nobody sees. It ends with the test.
struct Tmux {
    at: PathBuf,
}

impl Tmux {
    /// One that runs a shell script. Programs of the daemon's command line find the daemon.
    fn start(daemon: &Daemon, script: &str) -> Self {
        let at = std::env::temp_dir().join(format!("isopod-tmux-{}", std::process::id()));
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("conf"), "set -g status off\n").unwrap();
        let tmux = Self { at };
        let conf = tmux.at.join("conf");
        let mut command = tmux.command(&["-f", conf.to_str().unwrap(), "new-session", "-d"]);
        command.args(["-x", "100", "-y", "30", "sh", "-c", script]);
        let cli = daemon.cli(&[]);
        command.envs(cli.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(&tmux.at).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "tmux does not start");
        tmux
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.at.join("socket")).args(args).stdin(Stdio::null());
        command
    }

    fn does(&self, args: &[&str]) -> String {
        let done = self.command(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        text(&done.stdout)
    }

    /// What a person sees.
    fn screen(&self) -> String {
        self.does(&["capture-pane", "-p"])
    }

    fn types(&self, line: &str) {
        self.does(&["send-keys", "-l", line]);
        self.does(&["send-keys", "Enter"]);
    }

    async fn shows(&self, wanted: &str) {
        until(format!("{wanted:?} is on the screen"), SOON, async || {
            self.screen().contains(wanted).then_some(())
        })
        .await;
    }

    /// What the script has written.
    fn written(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.at.join(name)).ok().filter(|text| text.ends_with('\n'))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.at);
    }
}

#[tokio::test]
async fn a_person_types_resizes_interrupts_and_leaves_and_has_the_terminal_back() {
    let with = with_pod().await;
    with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let program = with.daemon().cli(&[]).get_program().to_str().unwrap().to_owned();
    for transport in ["websocket", "spdy"] {
        let exec = format!("{program} exec --transport={transport} -it main sh");
        let script = format!("stty -a > before; {exec}; echo $? > code; stty -a > after; exec cat");
        let tmux = Tmux::start(with.daemon(), &script);
        // Said in two words, so that the screen does not show it before it is carried out.
        tmux.types("echo he''llo");
        tmux.shows("\nhello\n").await;
        tmux.types("busybox stty -a | head -1");
        tmux.shows("rows 30; columns 100").await;

        tmux.does(&["resize-window", "-x", "90", "-y", "20"]);
        until("the container's terminal has the new size", SOON, async || {
            tmux.types("printf '\\033c'; busybox stty -a | head -1");
            let looked = tokio::time::timeout(Duration::from_secs(2), tmux.shows("line = "));
            looked.await.ok()?;
            tmux.screen().contains("rows 20; columns 90").then_some(())
        })
        .await;

        // A key that a raw terminal hands on, and that would end `isopod` otherwise.
        tmux.types("printf '\\033c'; echo sle''eps; sleep 1000");
        tmux.shows("sleeps\n").await;
        tmux.does(&["send-keys", "C-c"]);
        tmux.types("echo st''ill here");
        tmux.shows("still here\n").await;

        tmux.types("exit 7");
        let code = until("exec has ended", SOON, async || tmux.written("code")).await;
        assert_eq!(code, "7\n", "{}", tmux.screen());
        let after = until("the terminal is looked at", SOON, async || tmux.written("after")).await;
        let size = |text: &str| text.replace("rows 20; columns 90", "rows 30; columns 100");
        assert_eq!(size(&after), tmux.written("before").unwrap(), "it is as it was");
    }
}
