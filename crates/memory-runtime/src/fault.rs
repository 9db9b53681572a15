//! Faults on purpose, each behind a switch: what a conformance suite must notice.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! faults {
    ($($name:ident $word:literal $what:literal,)+) => {
        /// One thing that is done wrong while its switch is on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Fault {
            $(#[doc = $what] $name,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word that turns it on.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// What is done wrong.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)+
                }
            }
        }
    };
}

faults! {
    ApiVersion "api-version" "The API version is v2.",
    NotReady "not-ready" "RuntimeReady is false, without a reason.",
    NeverVerbose "never-verbose" "Verbose answers have no info.",
    AlwaysVerbose "always-verbose" "Brief answers have info.",
    UnknownHandler "unknown-handler" "An unknown handler is taken.",
    WrongCode "wrong-code" "What is not found is told as Unknown.",
    StopPodUnknown "stop-pod-unknown" "Stopping a sandbox that is gone is NotFound.",
    RemovePodUnknown "remove-pod-unknown" "Removing a sandbox that is gone is NotFound.",
    StopUnknown "stop-unknown" "Stopping a container that is gone is NotFound.",
    RemoveUnknown "remove-unknown" "Removing a container that is gone is NotFound.",
    PodLabelLost "pod-label-lost" "A sandbox loses a label.",
    PodAnnotationLost "pod-annotation-lost" "A sandbox loses its annotations.",
    LabelLost "label-lost" "A container loses its labels.",
    AnnotationLost "annotation-lost" "A container loses its annotations.",
    ListLabelsLost "list-labels-lost" "Lists of containers have no labels.",
    AttemptLost "attempt-lost" "A sandbox' attempt is always 0.",
    ExitCodeZero "exit-code-zero" "Every exit code is 0.",
    ExitCodeCut "exit-code-cut" "Exit codes have seven bits.",
    WrongReason "wrong-reason" "Every end is Completed.",
    NoFinishTime "no-finish-time" "A container that has ended has no time of it.",
    Seconds "seconds" "Times of creation are in seconds.",
    LogRepeats "log-repeats" "Each line is logged twice.",
    LogEndLost "log-end-lost" "What is said last without a line break is not logged.",
    LogStderrLost "log-stderr-lost" "Standard error is logged as standard output.",
    LogUncut "log-uncut" "Long lines are one record.",
    LogPath "log-path" "The log's path lacks the pod's directory.",
    ReopenIgnored "reopen-ignored" "A log goes on in the old file.",
    ReopenRepeats "reopen-repeats" "The new file begins with the last line of the old one.",
    ExecMixes "exec-mixes" "ExecSync gives standard error as standard output.",
    ExecCodeLost "exec-code-lost" "ExecSync gives 0 for every exit code.",
    ExecTimeout "exec-timeout" "An ExecSync past its time succeeds with 124.",
    ExecLogged "exec-logged" "What a command writes is logged as the container's.",
    StreamCodeLost "stream-code-lost" "Streamed commands all succeed.",
    StreamInputLost "stream-input-lost" "What a client sends is not read.",
    FilterLabels "filter-labels" "Lists do not look at labels.",
    FilterState "filter-state" "Lists do not look at states.",
    FilterId "filter-id" "Lists do not look at ids.",
    FilterPod "filter-pod" "Lists of containers do not look at the sandbox.",
    StreamRepeats "stream-repeats" "Streams of lists send an item twice.",
    ExitedUnlisted "exited-unlisted" "Containers that have ended are not listed.",
    RunTwice "run-twice" "A repeated RunPodSandbox makes another sandbox.",
    RunRefused "run-refused" "A repeated RunPodSandbox is AlreadyExists.",
    CreateTwice "create-twice" "A repeated CreateContainer makes another container.",
    StopLeavesReady "stop-leaves-ready" "A stopped sandbox is ready.",
    StopLeavesContainers "stop-leaves-containers" "Containers of a stopped sandbox go on.",
    RemoveLeavesContainers "remove-leaves-containers" "Containers of a removed sandbox stay.",
    CreateInStopped "create-in-stopped" "A stopped sandbox takes containers.",
    StartTwice "start-twice" "A container that has ended is started again.",
    StopAtOnce "stop-at-once" "Every stop is a kill.",
    StopSignal "stop-signal" "The stop signal is always SIGTERM.",
    ArgsIgnored "args-ignored" "Arguments without a command are ignored.",
    EnvironmentLost "environment-lost" "The request's variables are not set.",
    ImageEnvironmentWins "image-environment-wins" "The image's variables replace the request's.",
    AbsentImage "absent-image" "The status of an absent image is NotFound.",
    TagsLost "tags-lost" "An image has one name only.",
    DigestsLost "digests-lost" "An image has no digests.",
    UserZero "user-zero" "A user by name is number 0 too.",
    CorruptLayers "corrupt-layers" "Layers are not compared with their digests.",
    AuthIgnored "auth-ignored" "Credentials of a pull are not used.",
    NamesStay "names-stay" "RemoveImage takes one name only.",
    ManifestId "manifest-id" "An image's id is its manifest's digest.",
    EventLost "event-lost" "Ends are not told.",
    EventRepeats "event-repeats" "Each event is sent twice.",
    EventBare "event-bare" "Events have no statuses.",
    StatsBare "stats-bare" "Figures do not say whose they are.",
    StatsEnded "stats-ended" "Containers that have ended have figures.",
    MetricUndescribed "metric-undescribed" "A metric is not described.",
    MetricLabels "metric-labels" "Metrics have a value too few.",
    SameAddress "same-address" "All sandboxes have one address.",
    SecretTold "secret-told" "The error of a start shows the environment.",
    PortUnchecked "port-unchecked" "Ports are not checked.",
}

/// The switches. All are off at first.
#[derive(Debug, Default)]
pub struct Faults([AtomicU64; 2]);

impl Faults {
    fn place(fault: Fault) -> (usize, u64) {
        let number = fault as usize;
        (number / 64, 1 << (number % 64))
    }

    /// Turns one on.
    pub fn on(&self, fault: Fault) {
        let (word, bit) = Self::place(fault);
        self.0[word].fetch_or(bit, Ordering::Relaxed);
    }

    /// Turns all off.
    pub fn off(&self) {
        for word in &self.0 {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it is on.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        let (word, bit) = Self::place(fault);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_word_and_a_switch_of_its_own() {
        let words: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(words.len(), Fault::ALL.len());
        assert!(Fault::ALL.len() >= 40 && Fault::ALL.len() <= 128);
        for fault in Fault::ALL {
            let faults = Faults::default();
            faults.on(*fault);
            let on: Vec<_> = Fault::ALL.iter().filter(|fault| faults.has(**fault)).collect();
            assert_eq!(on, [fault]);
        }
    }
}
