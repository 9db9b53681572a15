//! PortForward.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::Context;
use crate::stream::{Wire, through};

cases! { "port-forward":
    "spdy" Program Streaming ["PortForward", "PortForwardRequest.port",
            "PortForwardResponse.url"]
        "Over SPDY, bytes go to a port and come back." => echoes(Wire::Spdy, "127.0.0.1");
    "websocket" Program Streaming ["PortForward", "PortForwardResponse.url"]
        "Over WebSocket, bytes go to a port and come back." => echoes(Wire::WebSocket, "127.0.0.1");
    "version-6" Program Kubelet ["PortForward"]
        "A server that listens on the loopback of IPv6 alone is reached." => echoes(Wire::Spdy, "::1");
    "many-spdy" Program Streaming ["PortForward"]
        "Over SPDY, thirty connections at once do not mix." => many(Wire::Spdy);
    "many-websocket" Program Streaming ["PortForward"]
        "Over WebSocket, thirty connections at once do not mix." => many(Wire::WebSocket);
    "half-closed" Program Streaming ["PortForward"]
        "A half that is ended ends at the server, whose answer still comes." => half(Wire::Spdy);
    "refused-port" Program Streaming ["PortForward"]
        "A port where nobody listens is an error on that connection." => nobody();
    "after-refusal" Program Streaming ["PortForward"]
        "After a connection that failed, another one on the same client works." => after_refusal();
    "pod-network-spdy" Linux Kubelet ["PortForward"] needs [PodNetwork]
        "Over SPDY, ports of the pod's own network are reached." => in_pod(Wire::Spdy);
    "pod-network-websocket" Linux Kubelet ["PortForward"] needs [PodNetwork]
        "Over WebSocket, ports of the pod's own network are reached." => in_pod(Wire::WebSocket);
    "not-the-nodes-ports" Linux Kubelet ["PortForward"] needs [PodNetwork]
        "Ports of the node are not reached through a pod with a network of its own." => not_nodes();
}

/// Sends back what comes, until the other side has ended.
async fn echo(address: &str) -> Result<u16, Stop> {
    let listener = TcpListener::bind((address, 0)).await;
    let listener =
        listener.map_err(|error| Stop::Skipped(format!("no {address} here: {error}")))?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    Ok(port)
}

async fn echoes(c: &Context, wire: Wire, address: &str) -> Verdict {
    let port = echo(address).await?;
    let pod = c.pod().await?;
    let forwarder = c.forward(&pod.id, &[i32::from(port)], wire).await?;
    let sent = b"some words".repeat(1000);
    let got = through(&forwarder, port, &sent).await??;
    ensure!(got == sent, "{} bytes come back, not {}", got.len(), sent.len());
    Ok(())
}

async fn many(c: &Context, wire: Wire) -> Verdict {
    let port = echo("127.0.0.1").await?;
    let pod = c.pod().await?;
    let forwarder = c.forward(&pod.id, &[i32::from(port)], wire).await?;
    let all = (0..30_u8).map(|number| {
        let forwarder = &forwarder;
        async move {
            let sent = vec![number; 20_000];
            let got = through(forwarder, port, &sent).await??;
            ensure!(got == sent, "{} bytes come back, not {}", got.len(), sent.len());
            Ok(())
        }
    });
    futures_util::future::join_all(all).await.into_iter().collect()
}

async fn half(c: &Context, wire: Wire) -> Verdict {
    use tokio::io::AsyncReadExt as _;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await?;
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await?;
        socket.write_all(format!("{} bytes", all.len()).as_bytes()).await?;
        socket.shutdown().await
    });
    let pod = c.pod().await?;
    let forwarder = c.forward(&pod.id, &[i32::from(port)], wire).await?;
    let got = through(&forwarder, port, &[7; 5000]).await??;
    same!("the answer", String::from_utf8_lossy(&got), "5000 bytes");
    server.abort();
    Ok(())
}

/// A port of this machine where nobody listens.
async fn free_port() -> Result<u16, Stop> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

async fn nobody(c: &Context) -> Verdict {
    let port = free_port().await?;
    let pod = c.pod().await?;
    let forwarder = c.forward(&pod.id, &[i32::from(port)], Wire::Spdy).await?;
    let answer = through(&forwarder, port, b"x").await?;
    ensure!(answer.is_err(), "it is no error: {answer:?}");
    Ok(())
}

async fn after_refusal(c: &Context) -> Verdict {
    let (dead, port) = (free_port().await?, echo("127.0.0.1").await?);
    let pod = c.pod().await?;
    let ports = [dead, port].map(i32::from);
    let forwarder = c.forward(&pod.id, &ports, Wire::WebSocket).await?;
    ensure!(through(&forwarder, dead, b"x").await?.is_err(), "the first is no error");
    same!("the second", through(&forwarder, port, b"words").await??, b"words".to_vec());
    Ok(())
}

async fn in_pod(c: &Context, wire: Wire) -> Verdict {
    let pod = c.pod_of(c.networked_config()).await?;
    let config = pod.fit(c.script("nc -ll -p 8080 -e /bin/cat"));
    c.launch(&pod, &config).await?;
    let forwarder = c.forward(&pod.id, &[8080], wire).await?;
    until!("the server listens", {
        let got = through(&forwarder, 8080, b"words").await?;
        got.is_ok_and(|got| got == b"words").then_some(())
    });
    Ok(())
}

async fn not_nodes(c: &Context) -> Verdict {
    let port = echo("127.0.0.1").await?;
    let pod = c.pod_of(c.networked_config()).await?;
    let forwarder = c.forward(&pod.id, &[i32::from(port)], Wire::Spdy).await?;
    let answer = through(&forwarder, port, b"x").await?;
    ensure!(answer.is_err(), "a port of the node is reached");
    Ok(())
}
