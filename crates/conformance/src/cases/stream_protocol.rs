//! The streaming server as such: URLs, tokens, versions.

use cri_api::v1::PortForwardRequest;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::Context;
use crate::stream::{OUTPUT, knock, spdy_headers, websocket_headers};

cases! { "stream":
    "url-is-absolute" Api Api ["Exec", "ExecResponse.url"]
        "The URL is absolute, with host and port." => absolute();
    "urls-differ" Api Kubelet ["Exec", "ExecResponse.url"]
        "Each call gives another URL." => differ();
    "token-is-long" Api Kubelet ["Exec", "ExecResponse.url"]
        "The URL has a token that cannot be guessed: 8 characters at least." => long_token();
    "token-serves-once" Program Kubelet ["Exec", "ExecResponse.url"]
        "A URL serves once: a second client is refused." => once();
    "unknown-token" Api Kubelet ["Exec", "ExecResponse.url"]
        "A token that was never given out is refused." => unknown();
    "another-path" Api Kubelet ["Exec", "ExecResponse.url"]
        "A path that is none of the server's is 404." => other_path();
    "plain-request" Api Streaming ["Exec", "ExecResponse.url"]
        "A request that is no upgrade is refused." => no_upgrade();
    "spdy-v4" Program Streaming ["Exec"]
        "Over SPDY, v4.channel.k8s.io is chosen by a client that knows v4 and older." =>
        spdy(&["v4.channel.k8s.io", "v3.channel.k8s.io"], "v4.channel.k8s.io");
    "spdy-v3" Program Streaming ["Exec"]
        "Over SPDY, v3.channel.k8s.io is spoken with those who know no newer." =>
        spdy(&["v3.channel.k8s.io"], "v3.channel.k8s.io");
    "spdy-v2" Program Streaming ["Exec"]
        "Over SPDY, v2.channel.k8s.io is spoken with those who know no newer." =>
        spdy(&["v2.channel.k8s.io"], "v2.channel.k8s.io");
    "spdy-v1" Program Streaming ["Exec"]
        "Over SPDY, channel.k8s.io is spoken with those who know no newer." =>
        spdy(&["channel.k8s.io"], "channel.k8s.io");
    "spdy-prefers" Program Streaming ["Exec"]
        "Over SPDY, of the versions that both know the client's first is chosen." =>
        spdy(&["v9.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io"], "v3.channel.k8s.io");
    "spdy-unknown" Program Streaming ["Exec"]
        "Over SPDY, a client with no version in common is refused." => spdy_unknown();
    "websocket-v5" Program Streaming ["Exec"]
        "Over WebSocket, v5.channel.k8s.io is spoken." => websocket("v5.channel.k8s.io");
    "websocket-v4" Program Streaming ["Exec"]
        "Over WebSocket, v4.channel.k8s.io is spoken." => websocket("v4.channel.k8s.io");
    "websocket-base64" Program Streaming ["Exec"]
        "Over WebSocket, v4.base64.channel.k8s.io is spoken." => websocket("v4.base64.channel.k8s.io");
    "websocket-v1" Program Streaming ["Exec"]
        "Over WebSocket, channel.k8s.io is spoken." => websocket("channel.k8s.io");
    "websocket-accept" Program Streaming ["Exec"]
        "The WebSocket handshake answers the client's key as RFC 6455 says." => accept();
    "forward-spdy" Api Streaming ["PortForward", "PortForwardResponse.url"]
        "Ports are forwarded over SPDY by the name portforward.k8s.io." => forward_spdy();
    "forward-tunnel" Api Streaming ["PortForward", "PortForwardResponse.url"]
        "Ports are forwarded over SPDY inside of WebSocket." => forward_tunnel();
}

async fn url(c: &Context) -> Result<String, Stop> {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    Ok(c.exec_url(&id, "true", OUTPUT).await?)
}

async fn absolute(c: &Context) -> Verdict {
    let url = url(c).await?;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let port = authority.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    ensure!(port.is_some(), "it is {url}");
    Ok(())
}

async fn differ(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let one = c.exec_url(&id, "true", OUTPUT).await?;
    ensure!(one != c.exec_url(&id, "true", OUTPUT).await?, "both are {one}");
    Ok(())
}

async fn long_token(c: &Context) -> Verdict {
    let url = url(c).await?;
    let token = url.rsplit('/').next().unwrap_or_default();
    ensure!(token.len() >= 8, "it is {token:?}");
    Ok(())
}

async fn once(c: &Context) -> Verdict {
    let url = url(c).await?;
    let headers = spdy_headers(&["v4.channel.k8s.io"]);
    same!("the first answer", knock(&url, "POST", &headers).await?.status, 101);
    let second = knock(&url, "POST", &headers).await?.status;
    ensure!((400..500).contains(&second), "the second answer is {second}");
    Ok(())
}

async fn unknown(c: &Context) -> Verdict {
    let url = url(c).await?;
    let (before, token) = url.rsplit_once('/').unwrap_or_default();
    let other: String = token.chars().rev().collect();
    let other = format!("{before}/{other}");
    let status = knock(&other, "POST", &spdy_headers(&["v4.channel.k8s.io"])).await?.status;
    ensure!((400..500).contains(&status), "the answer is {status}");
    Ok(())
}

async fn other_path(c: &Context) -> Verdict {
    let url = url(c).await?;
    let base: Vec<&str> = url.splitn(4, '/').take(3).collect();
    let answer = knock(&format!("{}/no/such/path", base.join("/")), "GET", &[]).await?;
    same!("the answer", answer.status, 404);
    Ok(())
}

async fn no_upgrade(c: &Context) -> Verdict {
    let status = knock(&url(c).await?, "GET", &[]).await?.status;
    ensure!((400..500).contains(&status), "the answer is {status}");
    Ok(())
}

async fn spdy(c: &Context, offered: &[&str], wanted: &str) -> Verdict {
    let answer = knock(&url(c).await?, "POST", &spdy_headers(offered)).await?;
    same!("the answer", answer.status, 101);
    same!("the version", answer.header("x-stream-protocol-version"), Some(wanted));
    Ok(())
}

async fn spdy_unknown(c: &Context) -> Verdict {
    let answer = knock(&url(c).await?, "POST", &spdy_headers(&["v9.channel.k8s.io"])).await?;
    ensure!((400..500).contains(&answer.status), "the answer is {}", answer.status);
    Ok(())
}

async fn websocket(c: &Context, name: &str) -> Verdict {
    let answer = knock(&url(c).await?, "GET", &websocket_headers(name)).await?;
    same!("the answer", answer.status, 101);
    same!("the version", answer.header("sec-websocket-protocol"), Some(name));
    Ok(())
}

async fn accept(c: &Context) -> Verdict {
    let headers = websocket_headers("v4.channel.k8s.io");
    let answer = knock(&url(c).await?, "GET", &headers).await?;
    // RFC 6455, section 1.3, has this answer to this key.
    same!(
        "the answer",
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    Ok(())
}

async fn forward_url(c: &Context) -> Result<String, Stop> {
    let pod_sandbox_id = c.pod().await?.id;
    let request = PortForwardRequest { pod_sandbox_id, port: vec![80] };
    Ok(c.rpc.port_forward(request).await?.url)
}

async fn forward_spdy(c: &Context) -> Verdict {
    let answer =
        knock(&forward_url(c).await?, "POST", &spdy_headers(&["portforward.k8s.io"])).await?;
    same!("the answer", answer.status, 101);
    same!("the name", answer.header("x-stream-protocol-version"), Some("portforward.k8s.io"));
    Ok(())
}

async fn forward_tunnel(c: &Context) -> Verdict {
    let name = "SPDY/3.1+portforward.k8s.io";
    let answer = knock(&forward_url(c).await?, "GET", &websocket_headers(name)).await?;
    same!("the answer", answer.status, 101);
    same!("the name", answer.header("sec-websocket-protocol"), Some(name));
    Ok(())
}
