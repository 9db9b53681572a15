//! Asking the runtime over and over, without ever standing in the way of the keyboard.
//!
//! Always: one question at a time; a question that is not answered is kept open, and one that fails because
//! nobody is there is asked again.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::sample;
use super::usage::Usage;
use crate::cli::follow::is_away;
use crate::cli::node::Node;

/// How long a question may be open before that is said.
const QUIET: Duration = Duration::from_secs(3);

type Answer = Result<Vec<Usage>, Status>;
type Question = Pin<Box<dyn Future<Output = Answer>>>;

/// The questions.
pub struct Asking {
    node: Node,
    every: Duration,
    next: Instant,
    /// The one that is open, and since when.
    open: Option<(Instant, Question)>,
    answered: Instant,
    trouble: Option<String>,
}

impl Asking {
    /// Asks `node` first after `first`, then `every` so often. It has just answered.
    pub fn new(node: Node, first: Duration, every: Duration) -> Self {
        let now = Instant::now();
        Self { node, every, next: now + first, open: None, answered: now, trouble: None }
    }

    /// The next answer; an error where the runtime is there and says no. May be dropped at any time: the
    /// question stays open.
    pub async fn answer(&mut self) -> Answer {
        loop {
            let Some((_, open)) = &mut self.open else {
                tokio::time::sleep_until(self.next).await;
                let node = self.node.clone();
                self.open = Some((Instant::now(), Box::pin(async move { sample(&node).await })));
                continue;
            };
            let answer = open.as_mut().await;
            self.open = None;
            self.next = Instant::now() + self.every;
            if is_away(&answer) {
                self.trouble = answer.err().map(|status| status.message().to_owned());
                continue;
            }
            self.answered = Instant::now();
            self.trouble = None;
            return answer;
        }
    }

    /// What there is to say where no answer comes.
    pub fn complaint(&self) -> Option<String> {
        let asked = self.open.as_ref().map(|(since, _)| since.elapsed()).unwrap_or_default();
        complaint(asked, self.answered.elapsed(), self.trouble.as_deref())
    }
}

fn complaint(asked: Duration, answered: Duration, trouble: Option<&str>) -> Option<String> {
    if asked < QUIET && trouble.is_none() {
        return None;
    }
    let since = answered.as_secs();
    let why = trouble.map(|why| format!(" ({why})")).unwrap_or_default();
    Some(format!("NO ANSWER from the runtime for {since}s{why}; these are the last figures"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_with_its_length_and_a_slow_answer_is_not() {
        let seconds = Duration::from_secs;
        assert_eq!(complaint(seconds(1), seconds(5), None), None);
        let hangs = complaint(seconds(4), seconds(42), None).unwrap();
        assert!(hangs.starts_with("NO ANSWER from the runtime for 42s;"), "{hangs}");
        let gone = complaint(seconds(0), seconds(3), Some("connection refused")).unwrap();
        assert!(gone.contains("3s (connection refused)"), "{gone}");
    }
}
