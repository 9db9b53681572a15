//! Large blobs in parts, and what happens where that does not work.

use std::time::Duration;

use registry::{Limits, Registry};

use crate::server::{
    Reply, Request, Server, client_with, content, descriptor, drain, fetch, limits,
};

const PART: usize = 64 << 10;

/// A client for which anything of four parts is large.
fn in_parts(stall: Duration) -> Registry {
    client_with(Limits { range_size: PART as u64, stall, ..limits() })
}

fn long() -> Duration {
    Duration::from_secs(10)
}

fn ranges(server: &Server) -> Vec<(usize, Option<usize>)> {
    let mut all: Vec<_> = server.requests().iter().map(|r| (r.from(), r.to())).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn a_large_blob_comes_in_parts_that_fit_together() {
    let layer = content(PART * 5 + 100);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let reference = server.reference("a:b");
    assert_eq!(fetch(&in_parts(long()), &reference, &layer).await.unwrap(), layer);
    let want: Vec<_> =
        (0..6).map(|i| (i * PART, Some((i * PART + PART - 1).min(layer.len() - 1)))).collect();
    assert_eq!(ranges(&server), want);
    let mut rest = in_parts(long()).blob(&reference, &descriptor(&layer), 100, None).await.unwrap();
    assert_eq!(drain(&mut rest).await.unwrap(), layer[100..]);
}

#[tokio::test]
async fn a_connection_that_is_fast_enough_is_left_alone() {
    let layer = content(PART * 6);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let client = client_with(Limits { range_size: PART as u64, fast_enough: 0, ..limits() });
    assert_eq!(fetch(&client, &server.reference("a:b"), &layer).await.unwrap(), layer);
    assert_eq!(ranges(&server), [(0, Some(PART - 1)), (PART, None)]);
}

#[tokio::test]
async fn a_blob_of_few_parts_comes_in_one_piece() {
    let layer = content(PART * 3);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let got = fetch(&in_parts(long()), &server.reference("a:b"), &layer).await.unwrap();
    assert_eq!((got == layer, ranges(&server)), (true, vec![(0, None)]));
}

#[tokio::test]
async fn a_host_without_ranges_sends_everything_at_once() {
    let layer = content(PART * 6);
    let served = layer.clone();
    let server = Server::start(move |_| Reply::ok(&served)).await;
    let reference = server.reference("a:b");
    assert_eq!(fetch(&in_parts(long()), &reference, &layer).await.unwrap(), layer);
    assert_eq!(server.requests().len(), 1);
    let mut rest = in_parts(long()).blob(&reference, &descriptor(&layer), 7, None).await.unwrap();
    assert_eq!(drain(&mut rest).await.unwrap(), layer[7..]);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_host_that_lies_about_ranges_is_believed_no_more() {
    let layer = content(PART * 6);
    let lie = |r: &Request, all: &[u8]| match r.nth {
        // The whole, called a part.
        0 => Reply::new(206, all).header("Content-Range", "bytes 0-393215/393216"),
        _ => Reply::part(r, all),
    };
    let late = |r: &Request, all: &[u8]| match (r.nth, r.to()) {
        (0, _) | (_, None) => Reply::part(r, all),
        // The right name on another part, too long for it.
        (_, Some(to)) => {
            let range = format!("bytes {}-{to}/{}", r.from(), all.len());
            Reply::new(206, all).header("Content-Range", &range)
        }
    };
    for lie in [lie as fn(&Request, &[u8]) -> Reply, late] {
        let served = layer.clone();
        let server = Server::start(move |r| lie(r, &served)).await;
        let client = in_parts(long());
        let reference = server.reference("a:b");
        assert_eq!(fetch(&client, &reference, &layer).await.unwrap(), layer);
        let before = server.requests().len();
        assert_eq!(fetch(&client, &reference, &layer).await.unwrap(), layer);
        let again: Vec<_> = server.requests()[before..].iter().map(Request::to).collect();
        assert_eq!(again, [None], "the second download is in one piece");
    }
}

#[tokio::test]
async fn a_broken_part_lets_the_blob_go_on_in_one_piece() {
    let layer = content(PART * 6);
    for broken in [
        (|r: &Request, all: &[u8]| Reply::part(r, all).cut(10)) as fn(&Request, &[u8]) -> Reply,
        |_, _| Reply::new(503, &[]),
        |_, _| Reply::new(404, &[]),
        |r, all| Reply::part(r, all).hang(10),
    ] {
        let served = layer.clone();
        let server = Server::start(move |r| match (r.from() / PART, r.to()) {
            (2, Some(_)) => broken(r, &served),
            _ => Reply::part(r, &served),
        })
        .await;
        let client = in_parts(Duration::from_millis(1500));
        assert_eq!(fetch(&client, &server.reference("a:b"), &layer).await.unwrap(), layer);
        assert!(ranges(&server).iter().any(|r| r.0 == PART), "others were asked for meanwhile");
    }
}

#[tokio::test]
async fn a_blob_that_gets_no_place_in_memory_comes_part_by_part() {
    let layer = content(PART * 6);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let limits = Limits { range_size: PART as u64, ranges_ahead: 2, ..limits() };
    let client = client_with(limits);
    let reference = server.reference("a:b");
    let mut first = client.blob(&reference, &descriptor(&layer), 0, None).await.unwrap();
    // It has handed out the first part and holds both places.
    let mut got = Vec::new();
    while got.len() <= PART {
        got.extend_from_slice(&first.next().await.unwrap().unwrap());
    }
    assert_eq!(fetch(&client, &reference, &layer).await.unwrap(), layer);
    got.extend_from_slice(&drain(&mut first).await.unwrap());
    assert_eq!(got, layer);
}

#[tokio::test]
async fn parts_are_fetched_behind_an_open_one_as_soon_as_there_are_places() {
    let layer = content(PART * 6);
    let (served, slow) = (layer.clone(), layer.clone());
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    // The second part stays open.
    let second = Server::start(move |r| match (r.from() / PART, r.to()) {
        (1, Some(_)) => Reply::part(r, &slow).hang(10),
        _ => Reply::part(r, &slow),
    })
    .await;
    let limits = Limits { range_size: PART as u64, ranges_ahead: 2, ..limits() };
    let client = client_with(limits);
    let wanted = descriptor(&layer);
    let mut first = client.blob(&server.reference("a:b"), &wanted, 0, None).await.unwrap();
    let mut other = client.blob(&second.reference("a:b"), &wanted, 0, None).await.unwrap();
    for (blob, name) in [(&mut first, "it holds both places"), (&mut other, "it has none")] {
        let mut got = 0;
        while got <= PART {
            got += blob.next().await.unwrap().expect(name).len();
        }
    }
    assert_eq!(second.requests().len(), 2);
    drop(first);
    let asked = async {
        while !second.requests().iter().any(|r| r.from() == PART * 2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        came = other.next() => panic!("the open part goes on: {came:?}"),
        () = asked => {}
    }
}
