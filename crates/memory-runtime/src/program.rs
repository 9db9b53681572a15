//! Programs that are only played: as much of a shell as tests and load tests write.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use cri_log::Stream;
use tokio::sync::mpsc;

/// Where a program's output goes.
pub(crate) type Sink = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// What a program has around it.
pub(crate) struct Program {
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Standard input; empty where there is none.
    pub input: Option<mpsc::Receiver<Bytes>>,
    /// Signals by their numbers.
    pub signals: mpsc::UnboundedReceiver<i32>,
    pub sink: Sink,
    /// What is done on a signal: an exit code, or nothing at all.
    traps: BTreeMap<i32, Option<i32>>,
}

/// Programs that are there.
const KNOWN: [&str; 12] = [
    "sh", "echo", "printf", "seq", "sleep", "cat", "true", "false", "env", "pwd", "sync", "busybox",
];

/// Whether a program of this name can be started.
pub(crate) fn is_known(name: &str) -> bool {
    let name = name.strip_prefix("/bin/").unwrap_or(name);
    KNOWN.contains(&name)
}

/// The number of a signal by its name, with or without SIG.
pub(crate) fn signal(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let all = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
    ];
    all.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

impl Program {
    pub(crate) fn new(
        command: Vec<String>,
        environment: BTreeMap<String, String>,
        input: Option<mpsc::Receiver<Bytes>>,
        signals: mpsc::UnboundedReceiver<i32>,
        sink: Sink,
    ) -> Self {
        Self { command, environment, input, signals, sink, traps: BTreeMap::new() }
    }

    /// Plays it to its end, and gives its exit code.
    pub(crate) async fn run(&mut self) -> i32 {
        let words = self.command.clone();
        let is_shell = words.first().is_some_and(|word| word.ends_with("sh"));
        let outcome = match words.as_slice() {
            [_, flag, script] if is_shell && flag == "-c" => self.script(script).await,
            _ => self.simple(&words).await,
        };
        match outcome {
            Ok(code) | Err(code) => code,
        }
    }

    /// `Err` is an exit.
    async fn script(&mut self, script: &str) -> Result<i32, i32> {
        let mut code = 0;
        for words in commands(script) {
            if words.first().map(String::as_str) == Some("while") {
                // Loops only wait here.
                return Err(self.wait(None).await.unwrap_or_default());
            }
            code = self.simple(&words).await?;
        }
        Ok(code)
    }

    async fn simple(&mut self, words: &[String]) -> Result<i32, i32> {
        if let Ok(number) = self.signals.try_recv()
            && let Some(code) = self.heard(number)
        {
            return Err(code);
        }
        let (stream, words): (Stream, Vec<String>) = match words.split_last() {
            Some((last, rest)) if last == ">&2" => (Stream::Stderr, rest.to_vec()),
            _ => (Stream::Stdout, words.to_vec()),
        };
        let Some((name, args)) = words.split_first() else { return Ok(0) };
        let name = name.strip_prefix("/bin/").unwrap_or(name);
        let mut said = String::new();
        match name {
            "echo" => said = format!("{}\n", args.join(" ")),
            "printf" => said = printf(args),
            "seq" => said = seq(args),
            "env" => {
                for (key, value) in &self.environment {
                    said.push_str(&format!("{key}={value}\n"));
                }
            }
            "pwd" => said = "/\n".to_owned(),
            "false" => return Ok(1),
            "exit" => return Err(args.first().and_then(|code| code.parse().ok()).unwrap_or(0)),
            "trap" => self.trap(args),
            "sleep" => {
                let seconds = args.first().and_then(|text| text.parse().ok()).unwrap_or(0.0);
                if let Some(code) = self.wait(Some(Duration::from_secs_f64(seconds))).await {
                    return Err(code);
                }
            }
            "cat" => return self.cat().await,
            "true" | ":" | "wait" | "sync" => {}
            _ => return Ok(127),
        }
        if !said.is_empty() {
            (self.sink)(stream, said.as_bytes());
        }
        Ok(0)
    }

    fn trap(&mut self, args: &[String]) {
        let [action, signals @ ..] = args else { return };
        let code = action.strip_prefix("exit ").and_then(|code| code.trim().parse().ok());
        for number in signals.iter().filter_map(|name| signal(name)) {
            self.traps.insert(number, code);
        }
    }

    /// What a signal does: the exit code, where it ends the program.
    fn heard(&self, number: i32) -> Option<i32> {
        match self.traps.get(&number) {
            Some(code) => *code,
            None => Some(128 + number),
        }
    }

    /// Waits so long, or for ever; an exit code where a signal ends the program before.
    async fn wait(&mut self, time: Option<Duration>) -> Option<i32> {
        let time = time.unwrap_or(Duration::from_secs(1 << 30));
        let over = tokio::time::sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return None,
                Some(number) = self.signals.recv() => {
                    if let Some(code) = self.heard(number) {
                        return Some(code);
                    }
                }
            }
        }
    }

    async fn cat(&mut self) -> Result<i32, i32> {
        let Some(mut input) = self.input.take() else { return Ok(0) };
        loop {
            tokio::select! {
                chunk = input.recv() => match chunk {
                    Some(bytes) => (self.sink)(Stream::Stdout, &bytes),
                    None => return Ok(0),
                },
                Some(number) = self.signals.recv() => {
                    if let Some(code) = self.heard(number) {
                        return Err(code);
                    }
                }
            }
        }
    }
}

/// The commands of a script, each as its words, quotes taken off.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut signs: VecDeque<char> = script.chars().collect();
    while let Some(sign) = signs.pop_front() {
        match (quote, sign) {
            (Some(open), _) if sign == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(sign),
            (None, '\'' | '"') => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => end(&mut all, &mut word),
            (None, ';' | '\n') => {
                end(&mut all, &mut word);
                all.push(Vec::new());
            }
            // Of `>&2` and of `&` in the background.
            (None, _) => word.get_or_insert_default().push(sign),
        }
    }
    end(&mut all, &mut word);
    all.retain(|words| !words.is_empty());
    all
}

fn end(all: &mut [Vec<String>], word: &mut Option<String>) {
    if let (Some(word), Some(last)) = (word.take(), all.last_mut()) {
        last.push(word);
    }
}

/// `%s`, `%Nd`, `%%` and backslashes; the format again while there are arguments.
fn printf(args: &[String]) -> String {
    let Some((format, rest)) = args.split_first() else { return String::new() };
    let mut rest: VecDeque<&String> = rest.iter().collect();
    let mut text = String::new();
    loop {
        let before = rest.len();
        let mut signs = format.chars().peekable();
        while let Some(sign) = signs.next() {
            match sign {
                '\\' => text.push(match signs.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(other) => other,
                    None => '\\',
                }),
                '%' => {
                    let mut width = String::new();
                    while let Some(digit) = signs.next_if(char::is_ascii_digit) {
                        width.push(digit);
                    }
                    let width: usize = width.parse().unwrap_or(0);
                    match signs.next() {
                        Some('s' | 'd') => {
                            let value = rest.pop_front().cloned().unwrap_or_default();
                            text.push_str(&" ".repeat(width.saturating_sub(value.len())));
                            text.push_str(&value);
                        }
                        Some(other) => text.push(other),
                        None => text.push('%'),
                    }
                }
                other => text.push(other),
            }
        }
        if rest.is_empty() || rest.len() == before {
            return text;
        }
    }
}

fn seq(args: &[String]) -> String {
    let numbers: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    match numbers.as_slice() {
        [last] => (1..=*last).map(|n| format!("{n}\n")).collect(),
        [first, last] => (*first..=*last).map(|n| format!("{n}\n")).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn play(script: &str) -> (i32, String) {
        let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (_sender, signals) = mpsc::unbounded_channel();
        let into = std::sync::Arc::clone(&said);
        let sink: Sink = Box::new(move |stream, bytes| {
            let text = String::from_utf8_lossy(bytes);
            into.lock().unwrap().push_str(&format!("{stream}: {text}"));
        });
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let code = Program::new(command, BTreeMap::new(), None, signals, sink).run().await;
        let said = said.lock().unwrap().clone();
        (code, said)
    }

    #[tokio::test]
    async fn scripts_write_and_end() {
        assert_eq!(play("echo a  b; exit 3; echo c").await, (3, "stdout: a b\n".to_owned()));
        assert_eq!(play("echo '  x  ' >&2").await, (0, "stderr:   x  \n".to_owned()));
        assert_eq!(play("printf '[%s]' a '' b").await.1, "stdout: [a][][b]");
        assert_eq!(play("printf '%5d\\n' 7").await.1, "stdout:     7\n");
        assert_eq!(play("seq 1 3; cat; false").await, (1, "stdout: 1\n2\n3\n".to_owned()));
    }

    #[tokio::test]
    async fn traps_decide_what_a_signal_does() {
        let (sender, signals) = mpsc::unbounded_channel();
        let script = "trap 'exit 42' TERM; trap '' USR1; while :; do sleep 1; done";
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let sink: Sink = Box::new(|_, _| {});
        let mut program = Program::new(command, BTreeMap::new(), None, signals, sink);
        let running = tokio::spawn(async move { program.run().await });
        tokio::task::yield_now().await;
        sender.send(10).unwrap();
        sender.send(15).unwrap();
        assert_eq!(running.await.unwrap(), 42);
    }
}
