use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::*;

fn named(path: &str) -> Option<(String, String, Kind)> {
    let path = CgroupPath::parse(path).unwrap();
    let unit = Unit::named(&path, Mode::Unified, false)?;
    Some((unit.name, unit.slice, unit.kind))
}

#[test]
fn the_path_says_which_unit_it_is() {
    for (path, expected) in [
        (
            "/kubepods.slice/kubepods-pod1.slice/isopod-c.scope",
            Some(("isopod-c.scope", "kubepods-pod1.slice", Kind::Scope)),
        ),
        (
            "/kubepods.slice/kubepods-pod1.slice",
            Some(("kubepods-pod1.slice", "kubepods.slice", Kind::Slice)),
        ),
        ("/kubepods.slice", Some(("kubepods.slice", "-.slice", Kind::Slice))),
        ("/kubepods/pod1/c1", None),
        ("/x/isopod-c.scope", None),
        ("/a.slice/b.scope/exec-1", None),
        ("/a.scope/b.slice", None),
    ] {
        let expected =
            expected.map(|(name, slice, kind)| (name.to_owned(), slice.to_owned(), kind));
        assert_eq!(named(path), expected, "{path}");
    }
}

#[test]
fn limits_of_a_scope_wait_for_its_process() {
    let path = CgroupPath::parse("/a.slice/b.scope").unwrap();
    let unit = Unit::named(&path, Mode::Unified, false).unwrap();
    let pids =
        |limit| Resources { pids: Some(runtime_spec::Pids { limit }), ..Resources::default() };
    unit.limit(&pids(5)).unwrap();
    unit.limit(&pids(6)).unwrap();
    assert!(unit.awaits_process());
    assert_eq!(*unit.waiting.lock().unwrap(), [pids(5), pids(6)]);
}

#[test]
fn a_scope_that_another_process_has_begun_is_there() {
    let path = CgroupPath::parse("/a.slice/b.scope").unwrap();
    let unit = Unit::named(&path, Mode::Unified, false).unwrap();
    unit.limit(&Resources::default()).unwrap();
    unit.has_begun();
    assert!(!unit.awaits_process());
    assert!(unit.waiting.lock().unwrap().is_empty());
}

/// What systemd says, in a thread: greets, answers a call of `member` and then tells that its job is done.
fn pretend(mut stream: UnixStream) -> Vec<String> {
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a greeting comes");
        greeting.extend(byte);
    }
    stream.write_all(b"OK 0123\r\n").expect("it is heard");
    let mut members = Vec::new();
    loop {
        let mut fixed = [0; wire::FIXED];
        if stream.read_exact(&mut fixed).is_err() {
            return members;
        }
        let mut bytes = fixed.to_vec();
        bytes.resize(wire::FIXED + wire::rest_of(&fixed).expect("it is a message"), 0);
        stream.read_exact(&mut bytes[wire::FIXED..]).expect("it is whole");
        let call = Message::read(&bytes).expect("it can be read");
        let serial = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        members.push(call.member.clone());
        let (answer, signal) = match call.member.as_str() {
            "StartTransientUnit" => (wire::testing::answer(serial, "/job/7"), true),
            "SetUnitProperties" => (wire::testing::refusal(serial, "x.NoSuchUnit", "no"), false),
            _ => (wire::testing::answer(serial, ""), false),
        };
        // A signal about somebody else's job comes in between.
        stream.write_all(&wire::testing::job_removed("/job/6", "failed")).expect("it is heard");
        stream.write_all(&answer).expect("it is heard");
        if signal {
            stream.write_all(&wire::testing::job_removed("/job/7", "done")).expect("it is heard");
        }
    }
}

#[test]
fn calls_are_answered_by_serial_and_jobs_by_their_path() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let other = std::thread::spawn(move || pretend(theirs));
    let mut bus = Bus::begin(ours).unwrap();
    bus.manager("Subscribe", "", Writer::default()).unwrap();
    let job = bus.manager("StartTransientUnit", "", Writer::default()).unwrap();
    assert_eq!(job.body().text().unwrap(), "/job/7");
    let ended = bus.wait_for(|m| ended_job(m).is_some_and(|(id, _)| id == "/job/7")).unwrap();
    assert_eq!(ended_job(&ended).unwrap().1, "done");
    let refused = bus.manager("SetUnitProperties", "", Writer::default()).unwrap_err();
    assert!(!refused.is_no_such_unit(), "that is another's error");
    assert_eq!(refused.into_io().to_string(), "no (x.NoSuchUnit)");
    drop(bus);
    assert_eq!(other.join().unwrap(), ["Subscribe", "StartTransientUnit", "SetUnitProperties"]);
}
