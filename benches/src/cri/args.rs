//! What is to be measured.

use std::path::PathBuf;

/// All kinds of work, in their order.
const WORKS: [&str; 7] = ["calls", "throughput", "exec", "lists", "logs", "pull", "start"];

/// What is to be measured, and how often.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Endpoints as `NAME=SOCKET` or `NAME=SOCKET,HANDLER`.
    pub endpoints: Vec<(String, PathBuf, String)>,
    /// The image of all containers: one with a shell. The runtime must have it, or be able to pull it.
    pub image: String,
    /// An image that is removed and pulled again; none is where it is empty.
    pub pull: String,
    /// Kinds of work.
    pub works: Vec<String>,
    /// Samples of what takes some milliseconds.
    pub rounds: usize,
    /// Pods that are started at each concurrency.
    pub pods: usize,
    /// How many pods there are when lists are measured.
    pub counts: Vec<usize>,
    /// Megabytes that are logged.
    pub log_mb: usize,
    /// Whether pods with a network of their own are measured too.
    pub own_network: bool,
    /// Where results are written, without an ending.
    pub out: Option<PathBuf>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            image: String::new(),
            pull: String::new(),
            works: WORKS.map(str::to_owned).to_vec(),
            rounds: 30,
            pods: 64,
            counts: vec![10, 50, 500],
            log_mb: 200,
            own_network: false,
            out: None,
        }
    }
}

impl Wanted {
    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn parse(args: &[&str]) -> Result<Self, String> {
        let mut wanted = Self::default();
        let mut rest = args.iter();
        while let Some(flag) = rest.next() {
            if *flag == "--own-network" {
                wanted.own_network = true;
                continue;
            }
            if *flag == "--brief" {
                (wanted.rounds, wanted.pods, wanted.log_mb) = (5, 16, 20);
                wanted.counts = vec![10, 30];
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let number = || value.parse::<usize>().ok().filter(|n| *n > 0);
            let number = || number().ok_or_else(|| format!("{flag} {value}: a number is needed"));
            match *flag {
                "--endpoint" => wanted.endpoints.push(endpoint(value)?),
                "--image" => wanted.image = (*value).to_owned(),
                "--pull" => wanted.pull = (*value).to_owned(),
                "--out" => wanted.out = Some(PathBuf::from(value)),
                "--rounds" => wanted.rounds = number()?,
                "--pods" => wanted.pods = number()?,
                "--log-mb" => wanted.log_mb = number()?,
                "--counts" => {
                    let counts = value.split(',').map(str::parse).collect::<Result<Vec<_>, _>>();
                    wanted.counts =
                        counts.map_err(|_| format!("{flag} {value}: 10,100 is meant"))?;
                }
                "--works" => {
                    wanted.works = value.split(',').map(str::to_owned).collect();
                    if let Some(no) = wanted.works.iter().find(|w| !WORKS.contains(&w.as_str())) {
                        return Err(format!("{no} is no work; there are {}", WORKS.join(", ")));
                    }
                }
                other => return Err(format!("no option {other}")),
            }
        }
        Ok(wanted)
    }
}

/// `NAME=SOCKET,HANDLER`, `NAME=SOCKET` or `SOCKET`.
fn endpoint(text: &str) -> Result<(String, PathBuf, String), String> {
    let (text, handler) = text.split_once(',').unwrap_or((text, ""));
    let (name, socket) = text.split_once('=').unwrap_or(("", text));
    let socket = PathBuf::from(socket.strip_prefix("unix://").unwrap_or(socket));
    if !socket.is_absolute() {
        return Err(format!("{text}: an absolute path of a socket is needed"));
    }
    let name = if name.is_empty() {
        socket.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    } else {
        name.to_owned()
    };
    Ok((name, socket, handler.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_name_a_socket_and_a_handler() {
        let read = |text| endpoint(text).unwrap();
        let want = |name: &str, path: &str, handler: &str| {
            (name.to_owned(), PathBuf::from(path), handler.to_owned())
        };
        assert_eq!(read("/run/crio/crio.sock"), want("crio", "/run/crio/crio.sock", ""));
        assert_eq!(read("a=unix:///x,crun"), want("a", "/x", "crun"));
        assert!(endpoint("a=x").is_err());
        let wanted =
            Wanted::parse(&["--counts", "1,2", "--works", "exec", "--rounds", "3"]).unwrap();
        assert_eq!((wanted.counts, wanted.works.len(), wanted.rounds), (vec![1, 2], 1, 3));
        for bad in [&["--rounds", "0"][..], &["--works", "x"], &["--what"], &["--rounds"]] {
            assert!(Wanted::parse(bad).is_err(), "{bad:?}");
        }
    }
}
